"""Nobody decides in time: others are told, may from then on, and are bound as every reviewer is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from smtplib import SMTPException
from typing import Any

import pytest
from celery.exceptions import Retry
from django.core import mail
from django.utils import timezone

from approvals import emails
from approvals.domain import refusal
from approvals.domain.decide import Action, decide, merge_reviewers
from approvals.domain.dossier import still_missing
from approvals.domain.grants import readable_grants, revoke_as
from approvals.domain.quorum import missing_approvals
from approvals.domain.reach import Reach
from approvals.domain.refusal import Refusal
from approvals.domain.request import RequireApproval, ReviewerGroup
from approvals.domain.review import decide_review, open_review
from approvals.domain.reviewers import may_read, readable_reviews
from approvals.domain.scope import Scope
from approvals.models import Review
from approvals.tasks import remind_reviewers, send_escalation, send_reminder
from audit.models import LogEntry
from tests.approvals.factories import WRITE, access_rule, binding, person, policy, write_request

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
OFFICERS = ReviewerGroup("privacy-officers", stand_ins=("managers",))


def escalating(*reviewers: ReviewerGroup, **known: Any) -> Review:
    decision = RequireApproval(
        rule="phi-writes",
        reason="policy phi-writes requires a reviewer",
        reviewers=reviewers or (OFFICERS,),
        decide_within_s=3600,
        escalate_to=("managers",),
        escalate_before_s=600,
        **known,
    )
    return open_review(request=write_request(), binding=binding(), decision=decision, session_id="s", statement_id="t")


@pytest.fixture
def manager(db):
    return person("manager", "managers")


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(send_escalation, "delay", send_escalation)
    monkeypatch.setattr(send_reminder, "delay", send_reminder)


def passes(review: Review, seconds: int) -> Review:
    moved = timedelta(seconds=seconds)
    review.refresh_from_db()
    Review.objects.filter(pk=review.pk).update(
        opened_at=review.opened_at - moved, decide_by=review.decide_by - moved, escalate_at=review.escalate_at - moved
    )
    review.refresh_from_db()
    return review


def approve(review: Review, reviewer: Any, **known: Any) -> Review:
    return decide_review(review=review, reviewer=reviewer, decision="approve", reason="nobody else is here", **known)


def refused(review: Review, reviewer: Any, **known: Any) -> str:
    with pytest.raises(Refusal) as caught:
        approve(review, reviewer, **known)
    return caught.value.code


def bodies(kind: str) -> list[dict[str, Any]]:
    entries = LogEntry.objects.filter(kind=kind).order_by("seq")
    return [json.loads(bytes(entry.canonical))["body"] for entry in entries]


# --- Telling ---------------------------------------------------------------------------------------------------------


def test_policys_other_groups_are_told_once_before_it_expires(reviewer, manager, at_once):
    review = escalating()

    passes(review, 2_900)  # 700 s are left: the reminder's quarter, not yet the escalation's ten minutes
    remind_reviewers()
    assert [message.to for message in mail.outbox] == [["reviewer@example.test"]]
    passes(review, 200)
    remind_reviewers()
    remind_reviewers()

    assert [message.to for message in mail.outbox][1:] == [["manager@example.test"]]
    assert "you may decide in their place" in mail.outbox[-1].body
    assert "555-0100" not in mail.outbox[-1].body


def test_escalation_is_recorded_once_also_when_mail_fails(manager, at_once, monkeypatch):
    review = passes(escalating(), 3_100)
    send = emails._send

    def broken(**_: Any) -> None:
        raise SMTPException("452 try later")

    monkeypatch.setattr(emails, "_send", broken)
    with pytest.raises(Retry):
        send_escalation(str(review.pk))
    monkeypatch.setattr(emails, "_send", send)
    send_escalation.apply(args=[str(review.pk)], retries=1)

    assert [message.to for message in mail.outbox] == [["manager@example.test"]]
    assert [body["groups"] for body in bodies("review.escalated")] == [["managers"]]
    review.refresh_from_db()
    assert review.is_escalated


def test_decided_reviews_escalate_to_nobody(reviewer, manager, at_once):
    review = escalating()
    decide_review(review=review, reviewer=reviewer, decision="deny", reason="no")
    Review.objects.update(escalate_at=timezone.now() - timedelta(seconds=1))

    remind_reviewers()

    assert mail.outbox == []


def test_owner_among_the_stand_ins_is_not_called(manager, at_once):
    person("admin", "managers")  # answers for the agent
    passes(escalating(), 3_100)

    remind_reviewers()

    told = [message.to for message in mail.outbox if message.subject.startswith("Nobody decided")]
    assert told == [["manager@example.test"]]


# --- Deciding --------------------------------------------------------------------------------------------------------


def test_stand_in_decides_from_the_moment_on_and_not_before(manager):
    review = passes(escalating(), 2_900)
    assert refused(review, manager) == refusal.NOT_REVIEWER
    assert not may_read(review, manager)
    assert not readable_reviews(manager).exists()

    passes(review, 200)  # no worker told anybody: the time alone counts
    assert may_read(review, manager)
    assert list(readable_reviews(manager)) == [review]
    decided = approve(review, manager)

    assert decided.status == Review.Status.APPROVED
    assert decided.votes.get().groups == ["managers"]
    assert [body["escalated"] for body in bodies("review.decided")] == [True]


def test_reviewers_still_decide_after_the_escalation(reviewer):
    review = passes(escalating(), 3_100)

    assert approve(review, reviewer).status == Review.Status.APPROVED


def test_reviews_that_were_decided_before_stay_closed_to_the_others(reviewer, manager):
    review = escalating()
    decide_review(review=review, reviewer=reviewer, decision="deny", reason="no")
    review = passes(review, 3_100)
    Review.objects.update(decided_at=review.escalate_at - timedelta(seconds=1))
    review.refresh_from_db()

    assert not may_read(review, manager)
    assert not readable_reviews(manager).exists()


def test_number_of_people_stays(reviewer, manager):
    review = passes(escalating(replace(OFFICERS, quorum=2)), 3_100)

    assert approve(review, manager).status == Review.Status.PENDING
    assert still_missing(review) == (ReviewerGroup("privacy-officers", 1),)
    assert refused(review, manager) == refusal.ALREADY_VOTED
    assert approve(review, reviewer).status == Review.Status.APPROVED


def test_member_of_both_groups_counts_once():
    both = {"boss": frozenset({"privacy-officers", "managers"})}

    assert missing_approvals([replace(OFFICERS, quorum=2)], both) == (ReviewerGroup("privacy-officers", 1),)


def test_groups_of_policies_that_do_not_escalate_are_still_needed(manager):
    review = passes(escalating(OFFICERS, ReviewerGroup("dba")), 3_100)

    assert approve(review, manager).status == Review.Status.PENDING
    assert still_missing(review) == (ReviewerGroup("dba", 1),)


@pytest.mark.parametrize("name", ["admin", "demo-agent", "Admin"])
def test_whoever_asked_never_stands_in(name):
    review = passes(escalating(), 3_100)

    assert refused(review, person(name, "managers")) == refusal.SELF_APPROVAL


def test_disabled_stand_in_and_one_who_left_the_group_decide_nothing(manager):
    review = passes(escalating(), 3_100)
    manager.groups.clear()
    assert refused(review, manager) == refusal.NOT_REVIEWER
    manager.is_active = False
    manager.save()

    assert refused(review, manager) == refusal.REVIEWER_DISABLED


def test_author_of_the_policy_cannot_stand_in_alone(manager, reviewer):
    review = passes(escalating(authors=("manager",)), 3_100)

    assert approve(review, manager).status == Review.Status.PENDING
    assert approve(review, reviewer).status == Review.Status.APPROVED
    control = passes(escalating(authors=("somebody-else",)), 3_100)
    assert approve(control, manager).status == Review.Status.APPROVED


def test_stand_in_who_modifies_above_the_threshold_needs_somebody_else(manager, reviewer, data_plane):
    data_plane.risk = 70
    review = passes(escalating(), 3_100)
    changed = decide_review(
        review=review, reviewer=manager, decision="modify", reason="less", statement="UPDATE patients SET phone = NULL"
    )

    assert (changed.status, changed.escalate_to) == (Review.Status.PENDING, ["managers"])
    assert approve(changed, reviewer, seen_round=2).status == Review.Status.APPROVED


def test_modification_under_a_policy_that_does_not_escalate_ends_the_escalation(manager, reviewer, data_plane):
    data_plane.decision = RequireApproval(rule="r", reason="w", reviewers=(ReviewerGroup("privacy-officers", 2),))
    review = passes(escalating(), 3_100)
    changed = decide_review(
        review=review, reviewer=reviewer, decision="modify", reason="less", statement="UPDATE patients SET phone = NULL"
    )

    assert (changed.status, changed.escalate_to) == (Review.Status.PENDING, [])
    assert refused(changed, manager, seen_round=2) == refusal.NOT_REVIEWER


def test_stand_in_sees_and_revokes_the_approval(manager):
    review = passes(escalating(), 3_100)
    approve(review, manager, reach=Reach(Scope.ONCE))
    grant = readable_grants(manager).get()

    assert revoke_as(grant=grant, user=manager)


# --- Policies --------------------------------------------------------------------------------------------------------


def test_decision_names_who_stands_in_for_whom():
    first = replace(policy(Action.REQUIRE_APPROVAL, "a"), escalate_to=("managers",), escalate_before_s=600)
    second = replace(
        policy(Action.REQUIRE_APPROVAL, "b", reviewers=(ReviewerGroup("dba"),)),
        escalate_to=("board",),
        escalate_before_s=300,
    )

    decision = decide(write_request(), access_rules=[access_rule(WRITE)], policies=[first, second])

    assert decision.reviewers == (
        ReviewerGroup("privacy-officers", stand_ins=("managers",)),
        ReviewerGroup("dba", stand_ins=("board",)),
    )
    assert (decision.escalate_to, decision.escalate_before_s) == (("board", "managers"), 300)


def test_group_two_policies_ask_has_only_the_stand_ins_of_both():
    strict = ReviewerGroup("privacy-officers", 2)

    assert merge_reviewers([OFFICERS, strict]) == (strict,)
    assert merge_reviewers([OFFICERS, OFFICERS]) == (OFFICERS,)


def test_policy_that_says_no_moment_escalates_in_its_last_quarter():
    quiet = replace(policy(Action.REQUIRE_APPROVAL, decide_within_s=1200), escalate_to=("managers",))

    decision = decide(write_request(), access_rules=[access_rule(WRITE)], policies=[quiet])

    assert decision.escalate_before_s == 300
