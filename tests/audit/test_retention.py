"""A purge destroys what is due and nothing that is held, is certified first, and leaves every proof as it was."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from audit.domain.append import append_entries
from audit.domain.bundle import Scope, write_bundle
from audit.domain.check import check_evidence
from audit.domain.entry import Entry
from audit.domain.holds import place_hold, release_hold
from audit.domain.keys import audit_vkey
from audit.domain.note import Verifier
from audit.domain.retention import PurgeRefused, purge, what_is_due
from audit.domain.subject_keys import ensure_subject_key
from audit.domain.verify import Report, Verdict, verify_bundle
from audit.models import LogEntry, SealedText, SessionRecord, StatementRecord, SubjectSighting
from audit.models_retention import LegalHold, RetentionPolicy
from gateway.domain.recorded import record_change, state_of
from tests.audit.factories import WHO, opened
from tests.audit.test_accounting import met, shown_to

LONG_AGO = datetime(2019, 3, 1, tzinfo=UTC)


def aged(entry: Entry, at: datetime = LONG_AGO, *, session: str = "s1", subject: str = "demo-agent") -> Entry:
    return Entry(
        kind=entry.kind,
        body={**entry.body, "subject": subject},
        session_id=session,
        statement_id=entry.statement_id,
        sensitive=entry.sensitive,
        at_us=int(at.timestamp() * 1e6),
    )


def closed(session: str) -> Entry:
    return Entry(kind="session.closed", session_id=session, body={**WHO, "reason": "client"})


@pytest.fixture(autouse=True)
def evidence(db) -> None:
    """An old session, an old session of somebody else, and a new one; each with one statement that showed a patient."""
    ensure_subject_key()
    old = [opened("s1"), met("a"), shown_to("a", "1"), closed("s1")]
    other = [opened("s2"), met("b"), shown_to("b", "2"), closed("s2")]
    append_entries([aged(entry) for entry in old])
    append_entries([aged(entry, session="s2", subject="other") for entry in other])
    append_entries(
        [aged(entry, datetime.now(UTC), session="s3") for entry in (opened("s3"), met("c"), shown_to("c", "3"))]
    )


def kept_for(record_class: str, days: int) -> None:
    """As the console changes it, with its record."""
    row = RetentionPolicy.objects.get(pk=record_class)
    before = state_of(row)
    row.days = days
    row.save()
    record_change(row=row, before=before, after=state_of(row), subject="admin")


def damage() -> list[str]:
    return [finding.kind for finding in check_evidence(checked_by="test").findings]


def verified(tmp_path: Path, scope: Scope | None = None, change=lambda lines: lines) -> Report:  # type: ignore[no-untyped-def]
    out = io.BytesIO()
    write_bundle(out, scope=scope or Scope(), with_text=True, requested_by="test")
    path = tmp_path / "bundle"
    path.write_text("".join(change(out.getvalue().decode().splitlines(keepends=True))), encoding="utf-8")
    return verify_bundle(path, keys=[Verifier.parse(audit_vkey())])


def texts() -> set[str]:
    seqs = SealedText.objects.values_list("seq", flat=True)
    return set(LogEntry.objects.filter(seq__in=seqs).exclude(statement_id="").values_list("statement_id", flat=True))


def test_what_is_past_its_retention_goes_and_the_rest_stays():
    assert {due.record_class: due.count for due in what_is_due()} == {
        "texts": 2,
        "recordings": 0,
        "subjects": 2,
        "projections": 4,
    }

    purge(by="test")

    assert texts() == {"c"}
    assert SubjectSighting.objects.count() == 1
    assert list(StatementRecord.objects.values_list("pk", flat=True)) == ["c"]
    assert list(SessionRecord.objects.values_list("pk", flat=True)) == ["s3"]
    assert LogEntry.objects.filter(kind="statement.authorised").count() == 3


def test_every_class_is_certified_and_the_log_stays_intact(tmp_path: Path):
    purge(by="test")

    certified = [
        json.loads(bytes(e.canonical))["body"]["class"] for e in LogEntry.objects.filter(kind="evidence.purged")
    ]
    assert sorted(certified) == ["projections", "subjects", "texts"]
    assert damage() == []
    assert verified(tmp_path).verdict is Verdict.INTACT
    assert verified(tmp_path, Scope(session="s1")).verdict is Verdict.INTACT
    assert purge(by="test") == []


def test_the_policy_of_a_class_decides():
    RetentionPolicy.objects.update_or_create(record_class="texts", defaults={"days": 36_500})

    purge(by="test")

    assert texts() == {"a", "b", "c"}
    assert SubjectSighting.objects.count() == 1


def test_a_retention_shortened_beside_the_log_shortens_nothing():
    """Whoever can write to the table would have the product destroy the evidence itself, and certify it."""
    recent = aged(met("r"), datetime.now(UTC) - timedelta(days=90), session="s4")
    append_entries([recent])
    RetentionPolicy.objects.update(days=1)

    purge(by="test")
    assert texts() == {"c", "r"}

    kept_for("texts", 30)  # the control
    purge(by="test")
    assert texts() == {"c"}


@pytest.mark.parametrize("lifted", ["DELETE FROM audit_legalhold", "UPDATE audit_legalhold SET released_at = now()"])
def test_a_hold_lifted_beside_the_log_still_holds(lifted: str):
    hold = LegalHold(name="case 7", reason="litigation", session="s1")
    place_hold(hold=hold, by="admin")
    with connection.cursor() as cursor:
        cursor.execute(lifted)

    purge(by="test")
    assert texts() == {"a", "c"}


def test_a_hold_released_on_the_record_holds_nothing():
    hold = LegalHold(name="case 7", reason="litigation", session="s1")
    place_hold(hold=hold, by="admin")
    release_hold(hold=hold, by="admin")

    purge(by="test")

    assert texts() == {"c"}


@pytest.mark.parametrize(
    "hold",
    [
        {"session": "s1"},
        {"subject": "demo-agent"},
        {"since": LONG_AGO - timedelta(days=1), "until": LONG_AGO + timedelta(days=1), "session": "s1"},
    ],
)
def test_what_is_held_stays(hold: dict):
    LegalHold.objects.create(name="case 7", reason="litigation", placed_by="admin", **hold)

    purge(by="test")

    assert texts() == {"a", "c"}
    assert set(StatementRecord.objects.values_list("pk", flat=True)) == {"a", "c"}
    assert damage() == []


def test_a_portion_waits_for_a_hold_that_is_just_being_placed():
    """Else what it covers went after its entry says that it is kept."""
    placing = connection.copy()
    try:
        with placing.cursor() as cursor:
            placing.set_autocommit(False)
            cursor.execute("LOCK TABLE audit_legalhold IN ROW EXCLUSIVE MODE")  # what an INSERT takes
            with connection.cursor() as purging:
                purging.execute("SET LOCAL lock_timeout = '200ms'")
            with pytest.raises(OperationalError):
                purge(by="test")
    finally:
        placing.close()
    assert texts() == {"a", "b", "c"}


def test_a_hold_over_everything_keeps_everything():
    LegalHold.objects.create(name="case 8", reason="litigation", placed_by="admin")

    assert purge(by="test") == []
    assert texts() == {"a", "b", "c"}


def test_a_released_hold_holds_nothing():
    LegalHold.objects.create(name="case 9", reason="over", placed_by="admin", released_at=datetime.now(UTC))

    purge(by="test")

    assert texts() == {"c"}


@pytest.mark.parametrize(
    ("destroyed", "kind"),
    [
        ("DELETE FROM audit_sealedtext WHERE seq = (SELECT max(seq) FROM audit_sealedtext)", "text-missing"),
        ("DELETE FROM audit_statementrecord WHERE id = 'c'", "record-missing"),
        ("DELETE FROM audit_subjectsighting", "subject-missing"),
    ],
)
def test_what_no_certificate_covers_is_still_damage(destroyed: str, kind: str):
    purge(by="test")
    with connection.cursor() as cursor:
        cursor.execute(destroyed)

    assert kind in damage()


def test_a_certificate_does_not_cover_what_was_held():
    LegalHold.objects.create(name="case 7", reason="litigation", placed_by="admin", session="s1")
    purge(by="test")
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM audit_sealedtext AS t USING audit_logentry AS e WHERE t.seq = e.seq AND e.session_id = 's1'"
        )
        cursor.execute("DELETE FROM audit_statementrecord WHERE id = 'a'")

    assert {"text-missing", "record-missing"} <= set(damage())


def test_a_damaged_log_is_not_purged():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_logentry DISABLE TRIGGER USER")
        cursor.execute("UPDATE audit_logentry SET canonical = canonical || ' ' WHERE seq = 2")
        cursor.execute("ALTER TABLE audit_logentry ENABLE TRIGGER USER")

    with pytest.raises(PurgeRefused, match="damaged"):
        purge(by="test")

    assert texts() == {"a", "b", "c"}


def test_a_purge_cut_short_is_finished_by_the_next(monkeypatch: pytest.MonkeyPatch):
    def dies(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as cut:
        cut.setattr("audit.domain.retention._erase", dies)
        with pytest.raises(OSError, match="killed"):
            purge(by="test")
    assert texts() == {"a", "b", "c"}
    assert damage() == []

    purge(by="test")

    assert texts() == {"c"}
    assert damage() == []


def edited(lines: list[str], find: str, replace: str) -> list[str]:
    assert any(find in line for line in lines)
    return [line.replace(find, replace) for line in lines]


@pytest.mark.parametrize("scope", [Scope(), Scope(session="s1")])
def test_the_verifier_believes_no_certificate_that_is_not_in_the_log(tmp_path: Path, scope: Scope):
    purge(by="test")

    def forged(lines: list[str]) -> list[str]:
        return [
            line.replace('\\"held\\":0', '\\"held\\":1') if '"type":"certificate"' in line else line for line in lines
        ]

    def without(lines: list[str]) -> list[str]:
        return [line for line in lines if '"type":"certificate"' not in line]

    for change, kind in ((forged, "certificate-forged"), (without, "text-missing")):
        report = verified(tmp_path, scope, change)
        assert report.verdict is Verdict.TAMPERED
        assert kind in {finding.kind for finding in report.findings}
