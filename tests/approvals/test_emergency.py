"""Break-glass: who may, how far it reaches, that everybody hears of it, and that somebody else looks at it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import current_app
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from approvals.domain import hooks
from approvals.domain.emergency import (
    break_glass,
    end_as,
    end_due_emergencies,
    end_emergency,
    readable_emergencies,
    review_emergency,
)
from approvals.domain.emergency_use import (
    claim_emergency,
    confirm_emergency,
    emergency_stands,
    end_emergency_use,
    release_emergency_use,
    release_stale_uses,
)
from approvals.domain.load import load_emergencies
from approvals.domain.refusal import Refusal
from approvals.domain.request import Allow, RequireApproval
from approvals.models import EmergencyAccess, EmergencyRoster, EmergencyUse
from approvals.tasks import notify_emergency, watch_emergencies
from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.models import LogEntry
from tests.approvals.factories import OFFICERS, person, write_request
from tests.approvals.test_pages import browser

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
REASON = "patient in the emergency room, CANARY-4711, history needed at once"
HELD = RequireApproval(rule="phi-writes", reason="r", reviewers=(OFFICERS,))


@pytest.fixture
def doctor(db):
    return person("doctor")


@pytest.fixture
def roster(db):
    return EmergencyRoster.objects.create(
        name="emergency-room",
        connections=["clinic"],
        members=["doctor", "reviewer"],
        agents=["er-agent"],
        reviewers=["privacy-officers"],
        lasts_s=900,
        max_statements=3,
    )


def broken(doctor, roster, **known) -> EmergencyAccess:
    return break_glass(person=doctor, roster=roster, connection="clinic", reason=REASON, **known)


def claim(access, number=1, decision=HELD):
    return claim_emergency(
        emergency_id=str(access.pk),
        request=write_request(),
        decision=decision,
        statement_id=f"stmt-{number}",
        session_id="session-1",
    )


def kinds() -> list[str]:
    return list(LogEntry.objects.filter(kind__startswith="emergency.").order_by("seq").values_list("kind", flat=True))


# --- Taking it -------------------------------------------------------------------------------------------------------


def test_member_takes_it_for_as_long_as_the_roster_says(doctor, roster):
    access = broken(doctor, roster, lasts_s=7_200)

    assert (access.ends_at - access.opened_at).total_seconds() == 900
    assert [emergency.person for emergency in load_emergencies()] == ["doctor"]
    assert kinds() == ["emergency.opened"]
    assert b"CANARY" not in b"".join(bytes(entry.canonical) for entry in LogEntry.objects.all())
    assert b"CANARY" not in bytes(access.sealed_reason)


def test_nobody_else_takes_it(doctor, roster, reviewer2, monkeypatch):
    stranger, ghost = person("stranger"), person("ghost", is_active=False)
    roster.members.append("ghost")
    roster.save()
    attempts = [
        {"person": stranger, "connection": "clinic", "reason": REASON},
        {"person": ghost, "connection": "clinic", "reason": REASON},
        {"person": doctor, "connection": "warehouse", "reason": REASON},
        {"person": doctor, "connection": "clinic", "reason": "  too   short "},
        {"person": doctor, "connection": "clinic", "reason": REASON, "agent": "er-agent"},  # not the doctor's agent
    ]

    for attempt in attempts:
        with pytest.raises(Refusal):
            break_glass(roster=roster, **attempt)
    EmergencyRoster.objects.update(enabled=False)
    with pytest.raises(Refusal):
        broken(doctor, roster)

    assert not EmergencyAccess.objects.exists()
    EmergencyRoster.objects.update(enabled=True)
    assert broken(doctor, roster)  # the control
    with pytest.raises(Refusal):
        broken(doctor, roster)  # one at a time


def test_form_offers_no_longer_than_the_roster_lasts(doctor, roster):
    EmergencyRoster.objects.update(lasts_s=600)
    client, address = browser(doctor), reverse("approvals:emergencies")

    offered = client.get(address).text
    refused = client.post(address, {"place": "x", "minutes": 5, "reason": "the power failed"}).text

    assert 'max="10" value="10"' in offered
    assert 'max="10" value="5"' in refused


def test_access_of_a_clock_that_was_ahead_is_over(doctor, roster):
    access = broken(doctor, roster)
    assert claim(access) is not None  # the control
    in_a_year = timedelta(days=365)
    EmergencyAccess.objects.update(
        opened_at=access.opened_at + in_a_year,
        ends_at=access.ends_at + in_a_year,
        review_by=access.review_by + in_a_year,
    )

    assert load_emergencies() == ()
    assert claim(access, 2) is None
    assert end_due_emergencies() == 1
    access.refresh_from_db()
    assert access.ended_at is not None
    assert access.review_by < timezone.now() + timedelta(days=8)


def test_own_agent_of_the_roster_may_act(doctor, roster):
    hooks.register(agents_of=lambda username: ["er-agent", "other-agent"] if username == "doctor" else [])

    assert broken(doctor, roster, agent="er-agent").agent == "er-agent"
    with pytest.raises(Refusal):
        broken(doctor, roster, agent="other-agent")


def test_everybody_is_told_without_the_reason(doctor, roster, reviewer, admin):
    access = broken(doctor, roster)

    notify_emergency(str(access.pk), "emergency.opened")

    assert sorted(message.to[0] for message in mail.outbox) == ["admin@example.test", "reviewer@example.test"]
    assert all(message.subject == "BREAK GLASS: doctor on clinic" for message in mail.outbox)
    opened = EmergencyAccess.objects.get().opened_at
    assert all(f"Opened:     {opened:%Y-%m-%d %H:%M} UTC" in message.body for message in mail.outbox)
    assert all("CANARY" not in str(message.message()) for message in mail.outbox)


@pytest.mark.usefixtures("reviewer", "admin")
def test_everybody_is_told_while_the_broker_is_away(doctor, roster, monkeypatch, django_capture_on_commit_callbacks):
    def away(*_, **__):
        raise ConnectionError("no broker")

    monkeypatch.setattr(current_app, "send_task", away)

    with django_capture_on_commit_callbacks(execute=True):
        broken(doctor, roster)

    assert sorted(message.to[0] for message in mail.outbox) == ["admin@example.test", "reviewer@example.test"]


# --- Using it --------------------------------------------------------------------------------------------------------


def test_statements_are_counted_and_listed(doctor, roster):
    access = broken(doctor, roster)

    first = claim(access)
    assert confirm_emergency(claim=first, statement_id="stmt-1") is True
    end_emergency_use(claim=first, statement_id="stmt-1", rows=7)
    end_emergency_use(claim=first, statement_id="stmt-1", rows=7)
    claim(access, 2, Allow(rule="agents"))

    access.refresh_from_db()
    assert (access.statements, access.rows) == (2, 7)
    assert [(use.kind, use.rule, use.state) for use in access.uses.all()] == [
        ("UPDATE", "phi-writes", "confirmed"),
        ("UPDATE", "", "claimed"),
    ]
    assert kinds() == ["emergency.opened", "emergency.used", "emergency.used"]


def test_no_more_than_the_roster_permits(doctor, roster):
    access = broken(doctor, roster)

    claims = [claim(access, number) for number in range(5)]

    assert [given is not None for given in claims] == [True, True, True, False, False]


def test_claims_that_did_not_run_are_given_back(doctor, roster):
    access = broken(doctor, roster)
    release_emergency_use(claim=claim(access, 1), statement_id="stmt-1")
    lost = claim(access, 2)
    EmergencyUse.objects.update(at=timezone.now() - timedelta(minutes=1))

    assert release_stale_uses() == 1
    assert confirm_emergency(claim=lost, statement_id="stmt-2") is False
    access.refresh_from_db()
    assert access.statements == 0


@pytest.mark.parametrize("how", ["time", "ended", "disabled"])
def test_over_is_over(doctor, roster, how):
    access = broken(doctor, roster)
    waiting = claim(access)
    running = claim(access, 3)
    assert confirm_emergency(claim=running, statement_id="stmt-3")
    assert emergency_stands(claim=running)
    if how == "time":
        EmergencyAccess.objects.update(ends_at=timezone.now())
    elif how == "ended":
        end_emergency(access=access, by="admin")
    else:
        doctor.is_active = False
        doctor.save()

    assert claim(access, 2) is None
    if how != "disabled":
        assert confirm_emergency(claim=waiting, statement_id="stmt-1") is False
        assert not emergency_stands(claim=running)


def test_ending_it_ends_what_streams(doctor, roster, reviewer, django_capture_on_commit_callbacks, monkeypatch):
    from approvals.domain import emergency

    killed = []
    monkeypatch.setattr(emergency, "announce_kill", lambda *, session_id: killed.append(session_id))
    access = broken(doctor, roster)
    confirm_emergency(claim=claim(access), statement_id="stmt-1")

    with pytest.raises(Refusal):
        end_as(access=access, user=person("stranger"))
    assert end_as(access=access, user=doctor) is True
    assert end_as(access=access, user=reviewer) is False

    assert killed == ["session-1"]
    assert load_emergencies() == ()


# --- Looking at it ---------------------------------------------------------------------------------------------------


def test_somebody_else_reviews_it_once_after_its_end(doctor, roster, reviewer2):
    access = broken(doctor, roster)
    found = {"finding": "justified", "notes": "the patient was in the room, as written"}

    with pytest.raises(Refusal, match="in force"):
        review_emergency(access=access, reviewer=reviewer2, **found)
    end_emergency(access=access, by="doctor")
    review_emergency(access=access, reviewer=reviewer2, **found)
    with pytest.raises(Refusal, match="already"):
        review_emergency(access=access, reviewer=person("third", "privacy-officers"), **found)

    access.refresh_from_db()
    assert (access.finding, access.reviewed_by, access.state) == ("justified", "reviewer2", "reviewed")
    assert kinds() == ["emergency.opened", "emergency.ended", "emergency.reviewed"]


def test_whoever_took_part_never_reviews(roster, reviewer, doctor):
    """The reviewer is on the roster as well, and of the reviewing group: still not about their own access."""
    access = break_glass(person=reviewer, roster=roster, connection="clinic", reason=REASON)
    end_emergency(access=access)

    for somebody in (reviewer, doctor, person("outsider", "data-stewards")):
        with pytest.raises(Refusal):
            review_emergency(access=access, reviewer=somebody, finding="justified", notes="looked at it all, fine")

    assert EmergencyAccess.objects.get().reviewed_at is None


def test_overdue_review_escalates_once(doctor, roster, reviewer, admin, monkeypatch):
    monkeypatch.setattr(notify_emergency, "delay", notify_emergency)
    access = broken(doctor, roster)
    EmergencyAccess.objects.update(ends_at=timezone.now(), review_by=timezone.now())

    watch_emergencies()
    watch_emergencies()

    access.refresh_from_db()
    overdue = [message for message in mail.outbox if message.subject.startswith("OVERDUE")]
    assert access.ended_at is not None
    assert sorted(message.to[0] for message in overdue) == ["admin@example.test", "reviewer@example.test"]
    assert kinds() == ["emergency.opened", "emergency.ended", "emergency.overdue"]
    assert end_due_emergencies() == 0


def test_emergencies_are_seen_by_those_who_took_review_or_audit_them(doctor, roster, reviewer2):
    access = broken(doctor, roster)

    seen = {
        name: readable_emergencies(user).filter(pk=access.pk).exists()
        for name, user in {
            "doctor": doctor,
            "reviewer": reviewer2,
            "auditor": person("auditor", "auditors"),
            "outsider": person("outsider", "data-stewards"),
        }.items()
    }

    assert seen == {"doctor": True, "reviewer": True, "auditor": True, "outsider": False}


# --- Pages and REST --------------------------------------------------------------------------------------------------


def test_glass_is_broken_on_the_page(doctor, roster, reviewer2):
    address = reverse("approvals:emergencies")
    given = {"place": f"{roster.pk}:clinic", "minutes": 10, "reason": REASON}

    shown = browser(doctor).get(address).text
    hidden = browser(reviewer2).get(address).text
    forged = browser(doctor, enforce_csrf_checks=True).post(address, given)
    foreign = browser(person("outsider")).post(address, given)
    assert not EmergencyAccess.objects.exists()
    taken = browser(doctor).post(address, given)
    access = EmergencyAccess.objects.get()
    page = browser(reviewer2).get(access.get_absolute_url()).text

    assert ("Break the glass" in shown, "Break the glass" in hidden) == (True, False)
    assert (forged.status_code, foreign.status_code, taken.status_code) == (403, 400, 303)
    assert "CANARY-4711" in page
    assert browser(person("other")).get(access.get_absolute_url()).status_code == 404


def test_reviewer_ends_and_reviews_on_the_page(doctor, roster, reviewer2):
    access = broken(doctor, roster)
    reviewing = browser(reviewer2)

    reviewing.post(reverse("approvals:emergency-end", args=[access.pk]))
    bad = reviewing.post(access.get_absolute_url(), {"finding": "fine", "notes": "x"})
    short = reviewing.post(access.get_absolute_url(), {"finding": "misuse", "notes": "why"})
    good = reviewing.post(access.get_absolute_url(), {"finding": "misuse", "notes": "nobody of that name was here"})

    access.refresh_from_db()
    assert (bad.status_code, good.status_code) == (400, 303)
    assert (access.ended_by, access.finding) == ("reviewer2", "misuse")
    assert short.status_code == 400
    assert 'value="misuse" required checked' in short.text


def test_review_is_due_from_the_end_that_was_not_the_planned_one(doctor, roster):
    early, planned = broken(doctor, roster), broken(person("reviewer"), roster)
    EmergencyAccess.objects.filter(pk=planned.pk).update(ends_at=timezone.now() - timedelta(minutes=5))
    planned_due = planned.review_by

    end_emergency(access=early, by="doctor")
    end_emergency(access=planned)

    assert abs(early.review_by - early.ended_at - timedelta(seconds=roster.review_within_s)) < timedelta(seconds=1)
    assert planned.review_by == planned_due


def test_reviewer_reads_what_exactly_was_asked_and_the_record_says_so(doctor, roster, reviewer2):
    access = broken(doctor, roster)
    confirm_emergency(claim=claim(access), statement_id="stmt-1")
    append_entries(
        [
            Entry(
                kind="statement.authorised",
                session_id="session-1",
                statement_id=statement,
                body={},
                sensitive={"statement": text, "parameters": [b"4711".hex()]},
            )
            for statement, text in (("stmt-1", "SELECT 'CANARY-ASKED', $1"), ("stmt-2", "SELECT 'CANARY-OTHER'"))
        ]
    )
    end_emergency(access=access)
    address = reverse("approvals:emergency-texts", args=[access.pk])

    followed = browser(reviewer2).get(address)
    own = browser(doctor).post(address)
    outside = browser(person("outsider")).post(address)
    unread = browser(reviewer2).get(access.get_absolute_url()).text
    assert not LogEntry.objects.filter(kind="evidence.viewed").exists()
    shown = browser(reviewer2).post(address).text

    assert [answer.status_code for answer in (followed, own, outside)] == [405, 400, 404]
    assert not any("CANARY-ASKED" in text for text in (own.text, unread))
    assert ("CANARY-ASKED" in shown, "4711</code>" in shown, "CANARY-OTHER" in shown) == (True, True, False)
    assert f'action="{access.get_absolute_url()}"' in shown  # the finding is said beside it
    seen = LogEntry.objects.get(kind="evidence.viewed")
    assert b'"statements":["stmt-1"]' in bytes(seen.canonical)
    assert b'"subject":"reviewer2"' in bytes(seen.canonical)


def test_list_costs_the_same_for_one_and_for_many(doctor, roster, reviewer2):
    reviewing, asked = browser(reviewer2), []
    reviewing.get(reverse("approvals:emergencies"))  # the first page of a sign-in notes that it began

    for count in (1, 5):
        for _ in range(count):
            end_emergency(access=broken(doctor, roster))
        with CaptureQueriesContext(connection) as queries:
            assert reviewing.get(reverse("approvals:emergencies")).status_code == 200
        asked.append(len(queries))

    assert asked[0] == asked[1]


def test_rest_opens_shows_ends_and_reviews(doctor, roster, reviewer2):
    asked = {"connection": "clinic", "reason": REASON, "lasts_s": 60}
    address = reverse("api-emergencies")

    refused = browser(person("outsider")).post(address, asked, content_type="application/json")
    opened = browser(doctor).post(address, asked, content_type="application/json")
    one = reverse("api-emergency", args=[opened.json()["id"]])
    shown = browser(reviewer2).get(one).json()
    ended = browser(reviewer2).post(f"{one}/end")
    found = browser(reviewer2).post(
        f"{one}/finding", {"finding": "justified", "notes": "it was an emergency"}, content_type="application/json"
    )
    own = browser(doctor).post(
        f"{one}/finding", {"finding": "justified", "notes": "it was an emergency"}, content_type="application/json"
    )

    assert (refused.status_code, refused.json()["code"]) == (403, "not-on-roster")
    assert (opened.status_code, opened.json()["state"]) == (201, "in force")
    assert shown["reason"] == " ".join(REASON.split())
    assert (ended.json()["ended_by"], found.json()["finding"]) == ("reviewer2", "justified")
    assert own.json()["code"] == "self-approval"


# --- Taken off the roster --------------------------------------------------------------------------------------------


def off_the_list(roster):
    roster.members.remove("doctor")
    roster.save()


def switched_off(roster):
    roster.enabled = False
    roster.save()


def elsewhere(roster):
    roster.connections = ["warehouse"]
    roster.save()


@pytest.mark.parametrize("taken_back", [off_the_list, switched_off, elsewhere, EmergencyRoster.delete])
def test_whoever_is_off_the_roster_runs_nothing_more(doctor, roster, taken_back):
    access = broken(doctor, roster)
    assert claim(access, 1) is not None

    taken_back(roster)

    assert claim(access, 2) is None
    assert EmergencyAccess.objects.get().statements == 1


def test_agent_that_was_given_to_somebody_else_runs_nothing_more(doctor, roster):
    hooks.register(agents_of=lambda username: ["er-agent"])
    access = broken(doctor, roster, agent="er-agent")
    assert claim(access, 1) is not None

    hooks.register(agents_of=lambda username: [])

    assert claim(access, 2) is None


def test_access_of_who_was_taken_off_ends_with_what_it_runs(doctor, roster, monkeypatch):
    monkeypatch.setattr(notify_emergency, "delay", lambda *_: None)
    access, other = broken(doctor, roster), broken(person("reviewer"), roster)
    off_the_list(roster)

    watch_emergencies()

    access.refresh_from_db()
    other.refresh_from_db()
    assert access.ended_by == "roster:changed"
    assert other.ended_at is None
    assert kinds()[-1] == "emergency.ended"


def test_access_of_who_was_disabled_ends(doctor, roster):
    access = broken(doctor, roster)
    doctor.is_active = False
    doctor.save()

    watch_emergencies()

    access.refresh_from_db()
    assert access.ended_by == "roster:changed"
