"""Who saw a patient: indexed with the entry, found by number, gaps named, nothing typed kept, damage noticed."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from audit.domain.accounting import (
    AccountingProblem,
    Window,
    account,
    all_accesses,
    blast_radius,
    match_numbers,
    record_look_up,
    tokens_for,
)
from audit.domain.append import append_entries, append_prepared
from audit.domain.chain import prepare
from audit.domain.check import check_evidence
from audit.domain.entry import Entry
from audit.domain.journaled import pack, unpack
from audit.domain.sealing import evidence_sealer
from audit.domain.subject_keys import (
    SubjectKeyProblem,
    ensure_subject_key,
    erase_subject_key,
    newest_subject_key,
    rotate_subject_key,
)
from audit.domain.subjects import (
    SubjectKey,
    SubjectsSeen,
    SubjectTokens,
    numbers_meant,
    seen_body,
    seen_sensitive,
    token_of,
)
from audit.models import LogEntry, SealedText, StatementRecord, SubjectKeyRow, SubjectSighting
from tests.audit.factories import authorised, completed, opened

EVERYTHING = Window()


@pytest.fixture(autouse=True)
def key(db) -> None:
    ensure_subject_key()


def shown_to(statement: str, *numbers: str, without: int = 0, kind: str = "statement.completed") -> Entry:
    """The end of a statement that showed these patients' records."""
    key = newest_subject_key()
    assert key is not None
    tokens = tuple(token_of(key, name="patient", number=number) for number in numbers)
    seen = SubjectsSeen(
        key.key_id,
        known=(SubjectTokens("patient", tokens, without),),
        shown=(("id", ("public.patients.id",), "clear"), ("ssn", ("public.patients.ssn",), "redact")),
    )
    body = {**completed(statement).body, **seen_body(seen)}
    return Entry(kind=kind, session_id="s1", statement_id=statement, body=body, sensitive=seen_sensitive(seen))


def met(statement: str, agent: str = "demo-agent") -> Entry:
    entry = authorised(statement)
    body = {**entry.body, "subject": agent, "about": ["patient"]}
    return Entry(kind=entry.kind, session_id="s1", statement_id=statement, body=body, sensitive=entry.sensitive)


def unknown(statement: str, why: str) -> Entry:
    seen = SubjectsSeen(0, unknown=(("patient", why),))
    return Entry(
        kind="statement.completed",
        session_id="s1",
        statement_id=statement,
        body={**completed(statement).body, **seen_body(seen)},
    )


def accesses(number: str, window: Window = EVERYTHING) -> list[str]:
    return [access.statement for access in all_accesses(tokens=tokens_for(number, name="patient"), window=window)]


def test_a_patient_is_found_by_number_newest_first():
    append_entries([opened(), met("a"), shown_to("a", "4711", "4712"), met("b"), shown_to("b", "4711")])

    assert accesses("4711") == ["b", "a"]
    assert accesses(" 4712 ") == ["a"]
    assert accesses("4713") == []


def test_an_access_says_who_when_and_which_columns_in_which_state():
    append_entries([opened(), met("a"), shown_to("a", "4711")])

    (found,) = account(tokens=tokens_for("4711", name="patient"), name="patient", window=EVERYTHING).accesses

    assert (found.subject, found.owner, found.connection, found.rows) == ("demo-agent", "admin", "clinic", 2)
    assert (found.clear, found.masked) == (("id",), ("ssn (redact)",))


def test_pages_follow_one_another_without_a_hole():
    for n in range(7):
        append_entries([met(f"a{n}"), shown_to(f"a{n}", "4711")])
    tokens, seen, after = tokens_for("4711", name="patient"), [], ""

    while True:
        page = account(tokens=tokens, name="patient", window=EVERYTHING, after=after, limit=3)
        seen += [access.statement for access in page.accesses]
        after = page.after
        if not after:
            break

    assert seen == [f"a{n}" for n in range(6, -1, -1)]


def test_a_window_limits_by_person_connection_session_and_time():
    append_entries([opened(), met("a"), shown_to("a", "4711")])
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    assert accesses("4711", Window(subject="demo-agent", connection="clinic", session="s1")) == ["a"]
    assert accesses("4711", Window(subject="somebody")) == []
    assert accesses("4711", Window(connection="warehouse")) == []
    assert accesses("4711", Window(session="s2")) == []
    assert accesses("4711", Window(since=tomorrow)) == []


def test_another_kind_of_number_is_another_subject():
    append_entries([met("a"), shown_to("a", "4711")])

    assert list(all_accesses(tokens=tokens_for("4711", name="encounter"), window=EVERYTHING)) == []


def test_gaps_are_counted_by_reason():
    append_entries(
        [met("a"), shown_to("a", "4711"), met("b"), unknown("b", "no-key"), met("c"), unknown("c", "no-key")]
    )
    append_entries([met("d"), shown_to("d", "1", without=3), met("running"), met("e"), completed("e")])

    found = {gap.why: gap.statements for gap in account(tokens=[], name="patient", window=EVERYTHING).gaps}

    assert found == {"no-key": 2, "row-without-number": 1, "running": 1, "not-said": 1}


def test_the_blast_radius_counts_people_columns_and_gaps():
    append_entries(
        [met("a"), shown_to("a", "1", "2", "3"), met("b"), shown_to("b", "3"), met("c"), unknown("c", "type")]
    )
    append_entries([met("x", agent="other"), shown_to("x", "9")])

    found = blast_radius(window=Window(subject="demo-agent"))

    assert found.subjects == {"patient": 3}
    assert found.statements == 3
    assert [seen.statements for seen in found.seen] == [2, 1, 1]
    assert found.columns == (("public.patients.id", 2, 0), ("public.patients.ssn", 0, 2))
    assert [(gap.why, gap.statements) for gap in found.gaps] == [("type", 1)]


def test_a_list_of_numbers_is_matched_with_those_seen():
    append_entries([met("a"), shown_to("a", "1", "2")])

    matched = match_numbers(typed=["2", "3", "0001", ""], name="patient", window=EVERYTHING)

    assert sorted(number for number, _ in matched) == ["0001", "2"]


@pytest.mark.parametrize("number", ["", "4711", "ü" * 200])
def test_a_token_is_an_hmac_as_everybody_else_computes_it(number: str):
    key = SubjectKey(1, bytes(range(32)))
    parts = (b"hoopweb/subject/1", b"patient", number.encode())
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    assert token_of(key, name="patient", number=number) == hmac.digest(key.secret, message, "sha256")[:16]


def test_numbers_that_are_written_differently_are_the_same():
    assert numbers_meant(" 004711 ") == ("004711", "4711")
    assert numbers_meant("00010203-0405-0607-0809-0A0B0C0D0E0F")[-1] == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert numbers_meant("  ") == ()


def test_nothing_can_be_asked_without_a_number_a_kind_or_a_key():
    for typed, name in (("", "patient"), ("1", "")):
        with pytest.raises(AccountingProblem):
            tokens_for(typed, name=name)
    SubjectKeyRow.objects.all().delete()
    with pytest.raises(AccountingProblem, match="no connection declares"):
        tokens_for("1", name="patient")


def test_the_number_is_nowhere_in_the_database(django_db_blocker):
    number = "98765432109876"
    append_entries([met("a"), shown_to("a", number)])
    tokens = tokens_for(number, name="patient")
    record_look_up(viewer="auditor", what="accounting", name="patient", window=EVERYTHING, found=1, tokens=tokens)

    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE %s", [f"%{number}%"])
            assert cursor.fetchone() == (0,), table
    assert number.encode() not in b"".join(bytes(box) for box in SealedText.objects.values_list("box", flat=True))


def test_a_look_up_leaves_an_entry_without_the_token():
    tokens = tokens_for("4711", name="patient")
    record_look_up(viewer="auditor", what="accounting", name="patient", window=EVERYTHING, found=0, tokens=tokens)

    entry = LogEntry.objects.get(kind="subjects.looked_up")

    assert entry.subject == "auditor"
    assert tokens[0].hex().encode() not in bytes(entry.canonical)


def test_entries_that_came_through_the_journal_are_indexed_alike():
    append_entries([met("a")])
    journaled = unpack(pack(prepare(shown_to("a", "4711"), gateway="g", sealer=evidence_sealer())))
    assert journaled.entry.sensitive is None

    append_prepared([journaled])

    assert accesses("4711") == ["a"]
    assert not [f for f in check_evidence(checked_by="test").findings if f.kind.startswith("subject")]


def test_a_portion_ahead_of_the_end_counts_to_the_statement():
    append_entries([met("a"), shown_to("a", "1", "2", kind="statement.subjects"), shown_to("a", "2", "3")])

    assert accesses("1") == ["a"]
    assert blast_radius(window=EVERYTHING).subjects == {"patient": 3}
    assert StatementRecord.objects.get(pk="a").status == "completed"


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("DELETE FROM audit_subjectsighting", "subject-missing"),
        ("UPDATE audit_subjectsighting SET token = decode(md5('x'), 'hex')", "subject-missing"),
        ("UPDATE audit_subjectsighting SET seq = seq - 1", "subject-missing"),
        (
            "INSERT INTO audit_subjectsighting SELECT decode(md5('x'), 'hex'), seq, key, name FROM audit_subjectsighting",  # noqa: E501
            "subject-inserted",
        ),
        (
            "INSERT INTO audit_subjectsighting SELECT token, 1, key, name FROM audit_subjectsighting",
            "subject-inserted",
        ),
    ],
)
def test_an_index_that_does_not_say_what_the_log_says_is_found(damage: str, kind: str):
    append_entries([opened(), met("a"), shown_to("a", "4711")])
    assert not check_evidence(checked_by="test").findings

    with connection.cursor() as cursor:
        cursor.execute(damage)

    assert kind in {finding.kind for finding in check_evidence(checked_by="test").findings}


def test_older_keys_still_find_and_erased_ones_do_not():
    append_entries([met("a"), shown_to("a", "4711")])
    (first,) = SubjectKeyRow.objects.values_list("pk", flat=True)
    rotate_subject_key(by="os:root")
    append_entries([met("b"), shown_to("b", "4711")])
    assert accesses("4711") == ["b", "a"]

    erase_subject_key(key_id=first, by="os:root")

    assert accesses("4711") == ["b"]
    assert bytes(SubjectKeyRow.objects.get(pk=first).sealed) == b""
    assert SubjectSighting.objects.count() == 2
    assert LogEntry.objects.filter(kind="subjects.key_erased").count() == 1


def test_the_newest_key_is_not_erased():
    (only,) = SubjectKeyRow.objects.values_list("pk", flat=True)

    with pytest.raises(SubjectKeyProblem, match="rotated first"):
        erase_subject_key(key_id=only, by="os:root")
