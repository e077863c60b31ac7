"""Many entries at once go into the tables another way than few: what stands there must not tell which."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.domain.append import JournalMoved, JournalSpan, append_entries, append_leaves, append_prepared
from audit.domain.chain import prepare
from audit.domain.contents import check_texts_and_columns
from audit.domain.entry import Entry
from audit.domain.integrity import check_chain
from audit.domain.journaled import pack, unpack
from audit.domain.keys import log_keys
from audit.domain.records_check import check_records
from audit.domain.sealing import evidence_sealer
from audit.domain.sending import BULK
from audit.models import Checkpoint, JournalPosition, LogEntry, SealedText, StatementRecord
from tests.turn import examples

STATEMENTS = BULK  # each with two entries or more: well over what goes the way of the few


def told(number: int, kind: str, at_us: int, **body: object) -> Entry:
    said = {"subject": "agent\x00 \ud800 é", "connection": "clinic", "kind": "select", **body}
    sensitive = {"statement": f"select {number}"} if kind == "statement.authorised" else None
    return Entry(
        f"statement.{kind}" if "." not in kind else kind,
        said,
        session_id=f"s{number % 3}",
        statement_id=f"a{number:03d}",
        sensitive=sensitive,
        at_us=1_780_000_000_000_000 + at_us,
    )


def of_statement(number: int) -> list[Entry]:
    """Statements of every kind there is, said in different orders and words."""
    tables = {"tables_read": ["public.patients", "público.日"], "classes": ["ssn"], "risk": number, "complete": True}
    authorised = told(number, "authorised", number, rule="reads\t\\N", decision="allow", **tables)
    completed = told(
        number,
        "completed",
        number + 7,
        status="completed",
        rows=number,
        bytes=1 << 40,
        command_tag="SELECT 1",
        masked=[{"column": "ssn\x00", "rule": "r", "technique": "hash", "count": 3}],
    )
    held = told(number, "held", number - 5, review="r1", decision="require_approval", **tables)
    denied = told(number, "denied", number, code="rule-denies", reason="no", error="withheld")
    return [
        [authorised, completed],
        [authorised],
        [denied],
        [held, authorised, completed],
        [held, denied],
        [replace(completed, body={**completed.body, "status": "unfinished", "error": "gone"})],
        [held],
        [authorised, completed, replace(completed, body={**completed.body, "status": "failed"})],
    ][number % 8]


def opened() -> list[Entry]:
    return [Entry("session.opened", {"subject": "agent", "groups": ["a"]}, session_id=f"s{n}") for n in range(3)]


@pytest.fixture
def entries() -> list[Entry]:
    return opened() + [entry for number in range(STATEMENTS) for entry in of_statement(number)]


def rows(of: type) -> list[dict[str, object]]:
    return list(of.objects.order_by("pk").values())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("journaled", [False, True])
def test_records_of_many_entries_at_once_are_those_of_one_after_the_other(entries, journaled):
    prepared = [prepare(entry, gateway="g1", sealer=evidence_sealer()) for entry in entries]
    for item in prepared:
        append_prepared([item])
    singly = rows(StatementRecord)
    columns = list(LogEntry.objects.order_by("seq").values_list("kind", "statement_id", "subject", "connection", "at"))
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("TRUNCATE audit_logentry, audit_sealedtext, audit_statementrecord, audit_sessionrecord")
        cursor.execute("DELETE FROM audit_loghead; RESET session_replication_role")

    append_prepared([unpack(pack(item)) for item in prepared] if journaled else prepared)

    assert rows(StatementRecord) == singly
    assert (
        list(LogEntry.objects.order_by("seq").values_list("kind", "statement_id", "subject", "connection", "at"))
        == columns
    )
    assert SealedText.objects.count() == sum(entry.sensitive is not None for entry in entries)
    assert check_records() == []
    assert check_chain(log_keys()) == []
    assert check_texts_and_columns(len(entries)) == []


@pytest.mark.django_db(transaction=True)
def test_statement_that_has_a_record_is_added_to_by_a_large_batch():
    append_entries([*opened(), *(told(n, "held", 0, review="r1", classes=["ssn"]) for n in range(10))])
    append_entries([told(n, kind, 5, status="completed") for n in range(BULK) for kind in ("authorised", "completed")])

    assert StatementRecord.objects.count() == BULK
    assert StatementRecord.objects.filter(review="r1", status="completed").count() == 10
    assert check_records() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("says", "tries"), [({"review": "r1"}, 1), ({}, 2)])
@pytest.mark.parametrize("journal", ["", "j1"])
def test_record_that_was_not_expected_costs_a_second_try_and_nothing_else(says, tries, journal):
    """What was allowed at once is not looked for; one that was held says so, and is."""
    append_entries([*opened(), told(0, "held", 0, review="r1", classes=["ssn"])])
    entries = [told(n, "authorised", 5, **says) for n in range(BULK)] + [told(0, "completed", 9, status="completed")]
    prepared = [prepare(entry, gateway="g1", sealer=evidence_sealer()) for entry in entries]
    span = JournalSpan(journal, 0, 77) if journal else None
    placed = []

    leaves = append_leaves(prepared, attempted=placed.append, span=span)

    assert len(placed) == tries
    assert [leaf.seq for leaf in leaves] == list(range(5, 5 + len(entries)))
    assert LogEntry.objects.count() == 4 + len(entries)
    assert StatementRecord.objects.filter(status="running").count() == BULK - 1
    assert StatementRecord.objects.values_list("classes", "status").get(id="a000") == (["ssn"], "completed")
    assert (check_records(), check_chain(log_keys())) == ([], [])
    if span is not None:
        assert append_leaves(prepared, span=span) == []  # the log has them
        with pytest.raises(JournalMoved):
            append_leaves(prepared, span=JournalSpan(journal, 76, 99))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("known", [None, 40, 77])
def test_first_entries_of_a_log_may_come_from_a_journal(known):
    prepared = [prepare(entry, gateway="g1", sealer=evidence_sealer()) for entry in opened()]
    if known is not None:
        JournalPosition.objects.create(journal="j1", integrated=known)

    if known == 40:
        with pytest.raises(JournalMoved):
            append_leaves(prepared, span=JournalSpan("j1", 0, 77))
    else:
        appended = append_leaves(prepared, span=JournalSpan("j1", 0, 77))
        assert [leaf.seq for leaf in appended] == ([1, 2, 3] if known is None else [])

    assert LogEntry.objects.count() == (3 if known is None else 0)
    assert JournalPosition.objects.get(journal="j1").integrated == (known or 77)


@pytest.mark.django_db(transaction=True)
def test_retry_leaves_alone_what_its_caller_did():
    append_entries([*opened(), told(0, "held", 0, review="r1")])

    with transaction.atomic():
        Checkpoint.objects.create(size=1, root=b"", frontier=b"", head=b"", note="", signed_at=datetime.now(UTC))
        append_entries([told(n, "authorised", 5) for n in range(BULK)])

    assert Checkpoint.objects.count() == 1
    assert StatementRecord.objects.filter(status="running").count() == BULK


WORDS = st.text(max_size=12)
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(200), deadline=None)
@given(
    body=st.dictionaries(WORDS | st.sampled_from(["commitment", "body", "kind", "v", "statement"]), BODIES, max_size=4),
    names=st.tuples(*[WORDS | st.sampled_from(['","v":1}', ',"statement":"x', "\\", '"'])] * 4),
    sealed=st.booleans(),
)
def test_what_a_journal_gives_back_is_what_its_text_says(body, names, sealed):
    kind, session, statement, gateway = names
    sensitive = {"statement": "select 1"} if sealed else None
    entry = Entry(kind, body, session_id=session, statement_id=statement, sensitive=sensitive, at_us=17)
    packed = pack(prepare(entry, gateway=gateway, sealer=evidence_sealer()))

    found = unpack(packed)

    said = json.loads(found.draft.at(seq=0, prev=b""))
    assert (found.entry.kind, found.entry.body, found.gateway) == (said["kind"], said["body"], said["gateway"])
    assert (found.entry.session_id, found.entry.statement_id) == (said["session"], said["statement"])
    assert found.entry.at_us == 17
    assert pack(found) == packed
