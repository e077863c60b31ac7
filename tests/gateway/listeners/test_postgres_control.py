"""Transaction control that was allowed before is recorded and sent, not decided anew; nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from gateway.listeners import postgres_express
from gateway.listeners.postgres_text import means_one_thing
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, errors, execute, kinds, parse, query, rows, status
from tests.gateway.listeners.test_postgres_express import SSN, shut_lane
from tests.gateway.listeners.test_postgres_quick import Watched, watched

__all__ = ["watched"]  # a fixture

ROUND = [
    "begin", SSN, "commit",
    "BEGIN;", "select 1 / 0", SSN, "commit;",  # a failed block answers a COMMIT with ROLLBACK
    "start transaction", "begin", "rollback",
    "commit", "abort",  # a warning each
    "begin", "create temp table t (a int)", "rollback", SSN,
]  # fmt: skip


async def test_every_round_is_answered_and_recorded_as_the_first(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    heard, recorded, decided = [], [], []
    for _ in range(3):
        before, asked = len(gateway.record.entries), gateway.services.meter.assessed
        answers = [await raw.ask(query(text)) for text in ROUND]
        heard.append([(kinds(answer), status(answer)) for answer in answers])
        entries = [entry for entry in gateway.record.entries[before:] if entry.kind.startswith("statement.")]
        recorded.append([(entry.kind, entry.body["kind"], entry.body.get("status")) for entry in entries])
        decided.append(gateway.services.meter.assessed - asked)

    assert heard[1:] == heard[:1] * 2
    assert recorded[1:] == recorded[:1] * 2
    assert decided[1:] == [1, 1]  # the definition


@pytest.mark.parametrize("text", ["begin", "Begin Work", "START TRANSACTION", "end", "rollback transaction"])
def test_plain_control_means_one_thing(text: str) -> None:
    assert means_one_thing(text)


@pytest.mark.parametrize(
    "text",
    ["begin read only", "start", "commit and chain", "commit prepared 'a'", "rollback to a", "prepare transaction 'a'",
     "end\n", "execute p", "fetch c", "set role x", "begin; x"],
)  # fmt: skip
def test_what_may_mean_another_thing(text: str) -> None:
    assert not means_one_thing(text)


@pytest.fixture
def doubles() -> Iterator[None]:
    """A table that finds a double only as its transaction is committed."""
    with psycopg.connect(direct_dsn(), autocommit=True) as connection:
        connection.execute("drop table if exists doubles")
        connection.execute("create table doubles (id int unique deferrable initially deferred)")
        yield
        connection.execute("drop table doubles")


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("lane", ["shut", "interpreted", "compiled"])
@pytest.mark.parametrize("commit", [query("commit"), parse("commit") + bind() + execute() + SYNC])
async def test_commit_that_fails_is_heard_and_recorded_as_failed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, lane: str, commit: bytes
) -> None:
    if lane == "shut":
        shut_lane(monkeypatch)
    elif lane == "interpreted":
        monkeypatch.setattr(postgres_express, "QuickLane", None)
    raw = await RawClient.connect(gateway)
    for _ in range(4):
        for text in ("begin", "insert into doubles values (1)", "insert into doubles values (1)"):
            assert not errors(await raw.ask(query(text)))
        heard = await raw.ask(commit)

        assert (errors(heard)[0]["C"], status(heard)) == ("23505", "I")
        assert "C" not in kinds(heard)
    assert rows(await raw.ask(query("select count(*) from doubles"))) == [[b"0"]]

    ended = [entry.body for entry in gateway.record.of("statement.completed") if entry.body["kind"] == "COMMIT"]
    assert [(body["status"], body["error"]) for body in ended] == [("failed", "23505")] * 4


@pytest.mark.skipif(postgres_express.QuickLane is None, reason="nobody compiled it")
@pytest.mark.parametrize("durability", ["os", "disk"])
async def test_end_of_a_transaction_asks_anew_for_what_it_may_have_undone(
    watched: type[Watched], durability: str
) -> None:
    """In the compiled lane too, where the words themselves are served."""
    gateway = await Gateway(recording="metadata", durability=durability).start()
    try:
        raw = await RawClient.connect(gateway)
        for _ in range(3):
            for text in ("begin", SSN, "rollback"):
                await raw.ask(query(text))
        assert watched.requests[-3:] == [True] * 3

        await raw.ask(query("begin"))
        await raw.ask(query("set local role pg_monitor"))
        await raw.ask(query("select 1"))
        assert watched.lanes[-1].session.context.role == "pg_monitor"
        await raw.ask(query("rollback"))
        assert watched.lanes[-1].session.meaning.unsettled
        assert rows(await raw.ask(query(SSN))) == [[b"[REDACTED]"]]
        assert watched.lanes[-1].session.context.role != "pg_monitor"
    finally:
        await gateway.stop()
