"""Whose records a result holds is noted on every way a row can take, and nothing of the result changes by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from types import MappingProxyType

import psycopg
import pytest

from analysis.statement import Analysis, ColumnRef, Origin, Output, Statement, TableRef, Transform
from audit.domain.entry import Entry
from audit.domain.subjects import SubjectKey, token_of, tokens_in
from gateway.domain.snapshot import Snapshot
from gateway.session import subjects
from gateway.session.context import SessionContext
from masking.domain.subjects import SubjectColumns
from tests.gateway.listeners.harness import Gateway, TableAnalyst

KEY = SubjectKey(3, b"k" * 32)
PEOPLE = TableRef("public", "people")


class PeopleAnalyst(TableAnalyst):
    """As the table of texts, and knows that `id` is the people's."""

    def _read(self, session: SessionContext, statement: Statement) -> Analysis:
        found = super()._read(session, statement)
        if "people" not in statement.text and found.inner is None:
            return found
        outputs = tuple(self._known(output) for output in found.outputs) if found.outputs is not None else None
        return replace(found, tables_read=frozenset({PEOPLE}), outputs=outputs)

    def _known(self, output: Output) -> Output:
        if output.name != "id":
            return output
        return Output("id", (Origin(ColumnRef("public", "people", "id"), Transform.IDENTITY),))


class Clinic(Gateway):
    declared: tuple[SubjectColumns, ...] = (
        SubjectColumns("patient", ("public.people.id",)),
        SubjectColumns("insured", ("public.people.ssn",)),
    )

    def snapshot(self) -> Snapshot:
        rules = super().snapshot()
        spec = replace(rules.connections["people"], subjects=self.declared)
        return replace(rules, connections=MappingProxyType({"people": spec}), subject_key=KEY)


@pytest.fixture
async def clinic() -> AsyncIterator[Gateway]:
    running = await Clinic().start()
    running.services.analysts["postgres"] = PeopleAnalyst()
    yield running
    await running.stop()


def named(entries: list[Entry], kind: str = "patient") -> set[bytes]:
    """Every token of a kind in the entries, and nothing but tokens under the key."""
    found: set[bytes] = set()
    for entry in entries:
        key, tokens = tokens_in(entry.sensitive)
        assert key in {0, KEY.key_id}
        found |= set(tokens.get(kind, ()))
    return found


def expected(*numbers: object, kind: str = "patient") -> set[bytes]:
    return {token_of(KEY, name=kind, number=str(number)) for number in numbers}


async def ends(gateway: Gateway) -> list[Entry]:
    """How the statements about people ended, once all have."""
    async with asyncio.timeout(20):
        while len(gateway.record.of("statement.completed")) < len(gateway.record.of("statement.authorised")):
            await asyncio.sleep(0.01)
    return [entry for entry in gateway.record.of("statement.completed") if "subjects" in entry.body]


@pytest.mark.parametrize("binary", [False, True])
async def test_rows_name_their_subjects_in_either_format(clinic: Gateway, binary: bool) -> None:
    async with await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection:
        cursor = connection.cursor(binary=binary)
        await cursor.execute("select id, name from people where id <= %s", (3,))
        assert [row[0] for row in await cursor.fetchall()] == [1, 2, 3]

    (end,) = await ends(clinic)
    assert named([end]) == expected(1, 2, 3)
    patient = {"name": "patient", "known": True, "count": 3, "without": 0}
    assert end.body["subjects"] == [patient, {"name": "insured", "known": False, "why": "no-key"}]
    assert end.body["shown"][0] == {"column": "id", "of": ["public.people.id"], "as": "clear"}


async def test_a_masked_number_is_noted_as_it_is_stored(clinic: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection:
        rows = await (await connection.execute("select ssn from people where id = 7")).fetchall()

    assert rows == [("[REDACTED]",)]
    (end,) = await ends(clinic)
    assert named([end], "insured") == expected("078-05-0007", kind="insured")
    assert end.body["masked"] == [{"column": "ssn", "rule": "ssn", "technique": "redact", "count": 1}]


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
async def test_copies_name_their_subjects(clinic: Gateway, form: str) -> None:
    statement = f"copy (select id, ssn from people where id < 4) to stdout with (format {form})"
    async with (
        await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection,
        connection.cursor().copy(statement) as copy,
    ):
        data = b"".join([bytes(block) async for block in copy])

    assert b"078-05" not in data
    assert named(await ends(clinic)) == expected(1, 2, 3)
    assert named(await ends(clinic), "insured") == expected(*(f"078-05-000{n}" for n in (1, 2, 3)), kind="insured")


async def test_no_word_for_null_keeps_somebody_out_of_the_account(clinic: Gateway) -> None:
    """In text format the number 2 would come as NULL does, and be counted as a row without one."""
    statement = "copy (select id, name from people where id < 4) to stdout with (null '2')"
    async with await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement)
        async with connection.cursor().copy(statement.replace("'2'", "''")) as copy:
            assert b"2\tname 2\n" in b"".join([bytes(block) async for block in copy])

    assert set().union(*map(named_in_end, await ends(clinic))) == expected(1, 2, 3)


def named_in_end(end: Entry) -> set[bytes]:
    return named([end])


async def test_cursors_name_what_was_fetched(clinic: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(clinic.dsn()) as connection:
        await connection.execute("declare c cursor for select id from people")
        await connection.execute("fetch 2 from c")
        await connection.execute("fetch 1 from c")

    assert [named([end]) for end in await ends(clinic)] == [expected(1, 2), expected(3)]


async def test_every_execution_of_a_prepared_statement_is_noted(clinic: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection:
        for number in (1, 2, 3):
            await connection.execute("select id from people where id = %s", (number,), prepare=True)

    assert [named([end]) for end in await ends(clinic)] == [expected(1), expected(2), expected(3)]


async def test_a_large_result_is_noted_in_portions(clinic: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "PORTION", 100)
    async with await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection:
        await connection.execute("select id, name from people")

    portions = clinic.record.of("statement.subjects")
    assert portions
    assert named([*portions, *await ends(clinic)]) == expected(*range(1, 1001))
    assert sum(e.body["subjects"][0]["count"] for e in (*portions, *await ends(clinic))) == 1000


async def test_a_result_without_the_number_is_a_gap_and_an_empty_one_is_not(clinic: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection:
        await connection.execute("select name from people where id = 1")
        await connection.execute("select name from people where id = -1")

    known = [[kind["known"] for kind in end.body["subjects"]] for end in await ends(clinic)]
    assert known == [[False, False], [True, True]]


async def test_rows_without_a_number_are_counted(clinic: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection:
        await connection.execute("select id from (select null::int as id from people where id < 3) people")

    (end,) = await ends(clinic)
    assert end.body["subjects"][0] == {"name": "patient", "known": True, "count": 0, "without": 2}
    assert {"name": "patient", "known": False, "why": "row-without-number"} in end.body["subjects"]


async def test_without_a_key_nobody_is_named_and_it_is_said(clinic: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = clinic.services.snapshots.current()
    monkeypatch.setattr(type(clinic.services.snapshots), "current", lambda _: replace(rules, subject_key=None))
    async with await psycopg.AsyncConnection.connect(clinic.dsn(), autocommit=True) as connection:
        await connection.execute("select id from people where id = 1")

    (end,) = await ends(clinic)
    assert end.sensitive is None
    assert {kind["why"] for kind in end.body["subjects"]} == {"no-subject-key"}


async def test_nothing_is_noted_where_nothing_is_declared(gateway: Gateway) -> None:
    gateway.services.analysts["postgres"] = PeopleAnalyst()
    async with await psycopg.AsyncConnection.connect(gateway.dsn(), autocommit=True) as connection:
        await connection.execute("select id from people where id = 1")

    assert await ends(gateway) == []
    assert gateway.record.of("statement.completed")[0].sensitive is None
