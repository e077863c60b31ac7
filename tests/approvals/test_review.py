"""Reviews on a real database: who may decide, what ends them, and what the log says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.utils import timezone

from approvals.domain import refusal
from approvals.domain.binding import binding_digest, open_binding
from approvals.domain.dossier import current_statement, still_missing
from approvals.domain.facts import meaning_of
from approvals.domain.grant import claim_grant
from approvals.domain.quorum import missing_approvals
from approvals.domain.refusal import Refusal
from approvals.domain.request import Allow, RequireApproval, ReviewerGroup
from approvals.domain.review import (
    decide_review,
    expire_due_reviews,
    review_status,
    withdraw_review,
)
from approvals.models import Grant, Review, Vote
from audit.domain.sealing import SealProblem
from tests.approvals.factories import OFFICERS, UPDATE, access_request, binding, held, person

pytestmark = pytest.mark.django_db
BETTER = "UPDATE patients SET phone = NULL WHERE id = 7"
TWO = (ReviewerGroup("privacy-officers", 2),)


def approve(review, reviewer, **known):
    return decide_review(review=review, reviewer=reviewer, decision="approve", reason="looked at it", **known)


def deny(review, reviewer, **known):
    return decide_review(review=review, reviewer=reviewer, decision="deny", reason="not needed", **known)


def modify(review, reviewer, statement=BETTER, **known):
    return decide_review(
        review=review, reviewer=reviewer, decision="modify", reason="less", statement=statement, **known
    )


def refused(call, *args, **known):
    """Return the code of the refusal, having checked that nothing was stored."""
    before = (Vote.objects.count(), Grant.objects.count(), list(Review.objects.values("status", "round")))
    with pytest.raises(Refusal) as caught:
        call(*args, **known)
    assert (Vote.objects.count(), Grant.objects.count(), list(Review.objects.values("status", "round"))) == before
    return caught.value.code


def log_kinds():
    with connection.cursor() as cursor:
        cursor.execute("SELECT kind FROM audit_logentry ORDER BY seq")
        return [row[0] for row in cursor.fetchall()]


def overdue(review):
    Review.objects.filter(pk=review.pk).update(decide_by=timezone.now() - timedelta(seconds=1))
    return review


# --- Opening ---------------------------------------------------------------------------------------------------------


def test_open_joins_the_pending_review_of_the_same_binding():
    first, second = held(), held()

    assert first.pk == second.pk
    assert Review.objects.get().holders == 2
    assert log_kinds() == ["review.opened"]


@pytest.mark.parametrize(
    "change",
    [
        {"statement": UPDATE + " "},
        {"parameters": (b"8", None)},
        {"parameters": (b"7", b"")},
        {"parameter_types": (20, 25)},
        {"parameter_formats": (1, 0)},
        {"search_path": "evil, public"},
        {"settings": "DateStyle ISO, DMY"},
        {"role": "postgres"},
        {"connection": "clinic2"},
        {"rules": "digest-2"},
        {"principal_subject": "other-agent"},
        {"principal_issuer": "https://other"},
        {"principal_actor": "tool"},
        {"governed_as": "SELECT 1"},
        {"meaning": "of a temporary table of that name"},
    ],
)
def test_open_and_claim_tell_every_difference_of_the_binding(reviewer, change):
    review = held()
    approve(review, reviewer)

    assert binding_digest(binding(**change)) != binding_digest(binding())
    assert claim_grant(binding=binding(**change), statement_id="s") is None
    assert claim_grant(binding=binding(), statement_id="s") is not None  # the control: the exact request


def test_open_joins_no_review_of_a_text_that_means_something_else():
    temporary = held(meaning="reads pg_temp_7.patients")

    assert held(meaning="reads public.patients").pk != temporary.pk
    assert held(meaning="reads pg_temp_7.patients").pk == temporary.pk  # the control


def test_open_refuses_more_waiting_requests_than_one_requester_may_have(settings):
    settings.HOOPWEB_MAX_PENDING_REVIEWS = 2
    first, _ = held(), held(statement="UPDATE patients SET phone = '1' WHERE id = 1")

    with pytest.raises(Refusal) as caught:
        held(statement="UPDATE patients SET phone = '2' WHERE id = 2")

    assert caught.value.code == refusal.TOO_MANY_PENDING
    assert held().pk == first.pk  # joining what waits is no further request
    withdraw_review(review_id=first.pk)
    withdraw_review(review_id=first.pk)
    assert held(statement="UPDATE patients SET phone = '2' WHERE id = 2").status == "pending"


def test_open_seals_what_was_asked():
    review = held()
    row = Review.objects.filter(pk=review.pk).values().get()

    assert open_binding(row["sealed_binding"], review.pk) == binding()
    assert "555-0100" not in repr(row)


def test_binding_sealed_for_one_review_opens_no_other():
    review, other = held(), held(connection="clinic2")

    with pytest.raises(SealProblem):
        open_binding(review.sealed_binding, other.pk)


# --- Deciding --------------------------------------------------------------------------------------------------------


def test_approve_leaves_a_grant_and_an_entry(reviewer):
    review = approve(held(), reviewer)

    assert review.status == "approved"
    assert Grant.objects.get().digest == binding_digest(binding())
    assert review_status(review_id=str(review.pk)) == ("approved", "looked at it")
    assert log_kinds() == ["review.opened", "review.decided"]


def test_deny_ends_the_review_and_tells_why(reviewer):
    review = deny(held(), reviewer)

    assert review_status(review_id=str(review.pk)) == ("denied", "not needed")
    assert claim_grant(binding=binding(), statement_id="s") is None


def test_reasons_are_sealed(reviewer):
    decide_review(review=held(), reviewer=reviewer, decision="deny", reason="patient Muster called")

    assert "Muster" not in repr(Vote.objects.values().get())


@pytest.mark.parametrize("decision", [approve, deny, modify])
def test_decide_refuses_the_human_behind_the_agent(decision, admin, data_plane, reviewer):
    review = held()

    assert refused(decision, review, admin) == refusal.SELF_APPROVAL
    assert decision(review, reviewer).status != "pending"  # the control


@pytest.mark.parametrize("column", ["subject", "actor", "owner"])
@pytest.mark.parametrize("name", ["reviewer", "REVIEWER", "reviewer@example.test"])
def test_decide_refuses_the_requester_under_any_name(column, name, reviewer):
    review = held()
    Review.objects.filter(pk=review.pk).update(**{column: name})

    assert refused(approve, Review.objects.get(), reviewer) == refusal.SELF_APPROVAL


def test_decide_refuses_who_is_no_reviewer(reviewer):
    outsider = person("outsider", "data-stewards", is_superuser=True)
    review = held()

    assert refused(approve, review, outsider) == refusal.NOT_REVIEWER
    reviewer.groups.clear()
    assert refused(approve, review, reviewer) == refusal.NOT_REVIEWER


def test_decide_refuses_a_disabled_reviewer(reviewer):
    review = held()
    type(reviewer).objects.update(is_active=False)

    assert refused(approve, review, reviewer) == refusal.REVIEWER_DISABLED


def test_decide_needs_a_reason_and_a_known_decision(reviewer):
    review = held()

    assert refused(decide_review, review=review, reviewer=reviewer, decision="approve", reason=" ") == (
        refusal.REASON_MISSING
    )
    assert refused(decide_review, review=review, reviewer=reviewer, decision="maybe", reason="x") == (
        refusal.UNKNOWN_DECISION
    )


def test_decide_refuses_after_the_time_to_decide(reviewer):
    review = overdue(held())

    with pytest.raises(Refusal) as caught:
        approve(review, reviewer)

    assert caught.value.code == refusal.EXPIRED
    assert review_status(review_id=str(review.pk)) == ("expired", "")
    assert not Grant.objects.exists()


# --- Quorum ----------------------------------------------------------------------------------------------------------


def test_quorum_counts_distinct_people(reviewer, reviewer2):
    review = approve(held(groups=TWO), reviewer)

    assert review.status == "pending"
    assert refused(approve, review, reviewer) == refusal.ALREADY_VOTED
    assert approve(review, reviewer2).status == "approved"


def test_quorum_counts_a_member_of_two_groups_once(reviewer):
    both = person("both", "privacy-officers", "data-stewards")
    review = held(groups=(OFFICERS, ReviewerGroup("data-stewards")))

    assert approve(review, both).status == "pending"
    assert approve(review, reviewer).status == "approved"


def test_quorum_forgets_who_was_disabled_since(reviewer, reviewer2):
    review = approve(held(groups=TWO), reviewer)
    type(reviewer).objects.filter(pk=reviewer.pk).update(is_active=False)

    assert approve(review, reviewer2).status == "pending"


def test_quorum_forgets_who_left_the_group(reviewer, reviewer2):
    review = approve(held(groups=TWO), reviewer)
    reviewer.groups.remove(Group.objects.get(name="privacy-officers"))

    assert approve(review, reviewer2).status == "pending"


def test_quorum_of_nobody_is_never_met(reviewer):
    review = held()
    Review.objects.update(reviewers=[])

    assert still_missing(Review.objects.get()) != ()
    assert approve(review, reviewer).status == "pending"


def test_one_denial_outweighs_approvals(reviewer, reviewer2):
    review = approve(held(groups=TWO), reviewer)

    assert deny(review, reviewer2).status == "denied"


@pytest.mark.parametrize(
    ("wanted", "people", "missing"),
    [
        ([("a", 1)], {}, [("a", 1)]),
        ([("a", 1)], {"x": "a"}, []),
        ([("a", 1), ("b", 1)], {"x": "ab"}, [("b", 1)]),
        ([("a", 1), ("b", 1)], {"x": "ab", "y": "a"}, []),
        ([("a", 2), ("b", 1)], {"x": "ab", "y": "a", "z": "a"}, []),
        ([("a", 2), ("b", 1)], {"x": "ab", "y": "a"}, [("b", 1)]),
        ([("a", 1), ("b", 1), ("c", 1)], {"x": "abc", "y": "ab", "z": "a"}, []),
        ([("a", 1)], {"x": "b"}, [("a", 1)]),
        ([("a", 0)], {}, [("a", 1)]),
    ],
)
def test_missing_approvals(wanted, people, missing):
    groups = [ReviewerGroup(*pair) for pair in wanted]

    answer = missing_approvals(groups, {name: frozenset(letters) for name, letters in people.items()})

    assert sum(group.quorum for group in answer) == sum(count for _, count in missing)


# --- Modify ----------------------------------------------------------------------------------------------------------


def test_modify_grants_the_new_text_to_the_original_request(data_plane, reviewer):
    review = modify(held(), reviewer)

    claim = claim_grant(binding=binding(), statement_id="s")

    assert review.status == "approved"
    assert (claim.statement, claim.modified_from) == (BETTER, UPDATE)
    assert claim.meaning == meaning_of(review.facts)
    assert claim.approvers == ("reviewer",)
    assert claim_grant(binding=binding(), statement_id="s2") is None


def test_modify_grants_the_new_text_to_itself_but_only_once(data_plane, reviewer):
    review = modify(held(), reviewer)
    meant = meaning_of(review.facts)

    assert claim_grant(binding=binding(statement=BETTER, meaning="another"), statement_id="s") is None
    assert claim_grant(binding=binding(statement=BETTER, meaning=meant), statement_id="s").statement == BETTER
    assert claim_grant(binding=binding(), statement_id="s") is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("DROP TABLE patients", refusal.MODIFIED_DENIED),
        ("SELEKT 1", refusal.MODIFIED_UNREADABLE),
        ("  ", refusal.NOT_MODIFIED),
        (UPDATE, refusal.NOT_MODIFIED),
        ("x" * 1_000_001, refusal.NOT_MODIFIED),
    ],
)
def test_modify_refuses_text_that_may_not_run(data_plane, reviewer, text, code):
    assert refused(modify, held(), reviewer, text) == code


def test_modify_refuses_without_a_data_plane(data_plane, reviewer, monkeypatch):
    monkeypatch.setattr("approvals.domain.hooks._registry.reanalyse", None)

    assert refused(modify, held(), reviewer) == refusal.MODIFIED_UNREADABLE


def test_modify_refuses_where_the_text_names_another_statement(data_plane, reviewer):
    assert refused(modify, held(governed_as="SELECT 1"), reviewer) == refusal.MODIFIED_UNREADABLE


def test_modify_restarts_the_vote(data_plane, reviewer, reviewer2):
    review = approve(held(groups=TWO), reviewer)

    review = modify(review, reviewer2)

    assert (review.status, review.round) == ("pending", 2)
    assert refused(approve, review, reviewer) == refusal.TEXT_CHANGED  # they saw the text of round 1
    assert approve(review, reviewer, seen_round=2).status == "approved"
    assert current_statement(review) == BETTER


def test_modify_at_high_risk_needs_someone_else(data_plane, reviewer, reviewer2):
    data_plane.risk = 60

    review = modify(held(), reviewer)

    assert review.status == "pending"
    assert refused(approve, review, reviewer, seen_round=2) == refusal.ALREADY_VOTED
    assert approve(review, reviewer2, seen_round=2).status == "approved"
    assert claim_grant(binding=binding(), statement_id="s").approvers == ("reviewer2",)


def test_modify_asks_whoever_the_new_text_needs_as_well(data_plane, reviewer):
    stewards = (ReviewerGroup("data-stewards"),)
    data_plane.decision = RequireApproval(rule="bulk", reason="bulk", reviewers=stewards)

    review = modify(held(), reviewer)

    assert review.status == "pending"
    assert review.reviewer_groups == ["privacy-officers", "data-stewards"]
    data_plane.decision = Allow(rule="agents")


# --- Endings ---------------------------------------------------------------------------------------------------------


def test_withdraw_waits_for_the_last_holder():
    review = held()
    held()

    withdraw_review(review_id=str(review.pk))
    assert review_status(review_id=str(review.pk))[0] == "pending"

    withdraw_review(review_id=str(review.pk))
    assert review_status(review_id=str(review.pk))[0] == "withdrawn"
    assert log_kinds() == ["review.opened", "review.withdrawn"]


def test_expire_ends_only_what_is_due():
    due, fresh = overdue(held()), held(connection="clinic2")

    assert expire_due_reviews() == 1
    assert expire_due_reviews() == 0
    assert review_status(review_id=str(due.pk))[0] == "expired"
    assert review_status(review_id=str(fresh.pk))[0] == "pending"


def test_expired_review_is_replaced_by_a_new_one():
    first = overdue(held())

    assert held().pk != first.pk


def test_ended_review_stays_as_it_ended(data_plane, reviewer, reviewer2):
    endings = {"approved": approve, "denied": deny}
    for number, (status, end) in enumerate(endings.items()):
        review = end(held(connection=f"clinic{number}"), reviewer)
        withdraw_review(review_id=str(review.pk))
        overdue(review)
        expire_due_reviews()
        for again in (approve, deny, modify):
            assert refused(again, review, reviewer2) == refusal.ALREADY_DECIDED
        assert Review.objects.get(pk=review.pk).status == status


# --- Claiming --------------------------------------------------------------------------------------------------------


def test_claim_names_approvers_and_reason(reviewer):
    review = approve(held(), reviewer)

    claim = claim_grant(binding=binding(), statement_id="stmt-9")

    assert (claim.review_id, claim.approvers, claim.reason) == (str(review.pk), ("reviewer",), "looked at it")
    assert (claim.statement, claim.modified_from) == (UPDATE, None)
    assert Review.objects.get().status == "executed"
    assert review_status(review_id=str(review.pk))[0] == "approved"
    assert log_kinds() == ["review.opened", "review.decided", "grant.claimed"]


def test_claim_refuses_after_the_time_to_execute(reviewer):
    approve(held(), reviewer)
    Grant.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert claim_grant(binding=binding(), statement_id="s") is None


def test_claim_refuses_for_a_disabled_requester(data_plane, reviewer):
    approve(held(), reviewer)

    data_plane.enabled = False
    assert claim_grant(binding=binding(), statement_id="s") is None
    data_plane.enabled = True
    assert claim_grant(binding=binding(), statement_id="s") is not None  # and nothing was consumed before


def test_claim_refuses_when_the_owner_was_disabled(reviewer, admin):
    approve(held(), reviewer)
    type(admin).objects.filter(username="admin").update(is_active=False)

    assert claim_grant(binding=binding(), statement_id="s") is None


def test_claim_refuses_what_somebody_approved_who_was_disabled_since(reviewer, reviewer2):
    approve(held(), reviewer)
    type(reviewer).objects.filter(pk=reviewer.pk).update(is_active=False)

    assert claim_grant(binding=binding(), statement_id="s") is None
    assert log_kinds()[-1] == "grant.revoked"
    type(reviewer).objects.filter(pk=reviewer.pk).update(is_active=True)
    assert claim_grant(binding=binding(), statement_id="s") is None  # what was revoked stays so


def test_grant_of_somebody_disabled_hides_no_newer_one(reviewer, reviewer2):
    approve(held(), reviewer)
    type(reviewer).objects.filter(pk=reviewer.pk).update(is_active=False)
    approve(held(), reviewer2)

    claim = claim_grant(binding=binding(), statement_id="s")

    assert claim is not None
    assert claim.approvers == (reviewer2.username,)


def test_claim_refuses_a_grant_moved_to_another_request_in_the_database(reviewer):
    approve(held(), reviewer)
    other = binding(statement="DELETE FROM patients")
    Grant.objects.update(digest=binding_digest(other))

    assert claim_grant(binding=other, statement_id="s") is None


def test_claim_refuses_a_revoked_grant(reviewer):
    approve(held(), reviewer)
    Grant.objects.update(revoked=True)

    assert claim_grant(binding=binding(), statement_id="s") is None


def test_claim_ignores_grants_of_reviews_that_are_not_approved(reviewer):
    review = approve(held(), reviewer)
    Review.objects.filter(pk=review.pk).update(status="denied")

    assert claim_grant(binding=binding(), statement_id="s") is None


def test_replaced_binding_is_not_equal():
    assert replace(binding(), rules="x") != binding()


def test_request_facts_hold_no_literal():
    review = held(request=access_request(text=UPDATE))

    assert "555-0100" not in repr(review.facts)
