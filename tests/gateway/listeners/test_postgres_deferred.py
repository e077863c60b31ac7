"""A remembered statement whose entry must be waited for: never sent before it is durable, nor once it is withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from audit.domain.entry import Entry, Receipt
from gateway.listeners.postgres_session import ClientSession
from gateway.session.known import KnownStatement
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import (
    SYNC,
    RawClient,
    bind,
    describe,
    errors,
    execute,
    kinds,
    parse,
    query,
    rows,
    status,
)
from tests.gateway.listeners.test_postgres_holding import cancel, wait_for

SSN = "select ssn from people where id = 7"


class Waiting:
    """A session whose next entries are answered when a test says so."""

    def __init__(self, gateway: Gateway, raw: RawClient) -> None:
        self.gateway, self.raw = gateway, raw
        self.answers: list[Callable[[], None]] = []
        gateway.record.holding = self.answers

    async def send(self, data: bytes) -> None:
        self.raw.writer.write(data)
        await wait_for(lambda: bool(self.answers))

    def durable(self) -> None:
        self.answers.pop(0)()

    @property
    def session(self) -> ClientSession:
        (live,) = self.gateway.registry.live()
        session = live.kill.__self__  # type: ignore[attr-defined]
        assert isinstance(session, ClientSession)
        return session

    @property
    def outcomes(self) -> list[object]:
        return [entry.body["status"] for entry in self.gateway.record.of("statement.completed")]


@pytest.fixture(params=["masked-results", "metadata"])  # the second is served on the compiled way, where it was built
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    running = await Gateway(recording=request.param).start()
    yield running
    await running.stop()


@pytest.fixture
async def waiting(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    monkeypatch.setattr(KnownStatement, "waits", True)
    raw = await RawClient.connect(gateway)
    for _ in range(3):
        await raw.ask(query(SSN))
        await raw.ask(extended(SSN))
    gateway.record.entries.clear()
    return Waiting(gateway, raw)


def extended(text: str) -> bytes:
    return parse(text) + bind() + describe() + execute() + SYNC


@pytest.mark.parametrize("asked", [query, extended])
async def test_nothing_is_sent_before_the_entry_is_durable(waiting: Waiting, asked: Callable[[str], bytes]) -> None:
    await waiting.send(asked(SSN))
    session = waiting.session
    assert session.relay.idle  # nothing is expected of the server
    assert waiting.gateway.record.entries == []

    waiting.durable()
    heard = await waiting.raw.until_ready()

    assert rows(heard) == [[b"[REDACTED]"]]
    assert waiting.outcomes == ["completed"]


async def test_what_comes_meanwhile_is_served_behind_it(waiting: Waiting) -> None:
    await waiting.send(query(SSN))
    waiting.raw.writer.write(query("select 1") + extended("select 2"))
    await asyncio.sleep(0.05)
    assert waiting.gateway.record.entries == []

    waiting.gateway.record.holding = None  # the last of them waits too
    waiting.durable()
    heard = [await waiting.raw.until_ready() for _ in range(3)]

    assert [rows(one) for one in heard] == [[[b"[REDACTED]"]], [[b"1"]], [[b"2"]]]


async def test_without_its_entry_it_is_refused_the_ordinary_way(waiting: Waiting) -> None:
    await waiting.send(query(SSN))
    waiting.raw.writer.write(query("select 1"))
    await asyncio.sleep(0.05)
    waiting.gateway.record.broken = True
    waiting.durable()
    first, second = await waiting.raw.until_ready(), await waiting.raw.until_ready()

    assert (kinds(first), kinds(second)) == ("EZ", "EZ")
    assert "audit log" in errors(first)[0]["M"]
    assert waiting.outcomes == []


@pytest.mark.parametrize("asked", [query, extended])
@pytest.mark.parametrize("begun", [False, True])
async def test_cancelled_meanwhile_it_never_runs(waiting: Waiting, asked: Callable[[str], bytes], begun: bool) -> None:
    if begun:
        waiting.gateway.record.holding = None
        await waiting.raw.ask(query("begin"))
        waiting.gateway.record.holding = waiting.answers
        waiting.gateway.record.entries.clear()
    await waiting.send(asked(SSN))
    await cancel(waiting.gateway, waiting.raw.key)
    waiting.durable()
    heard = await waiting.raw.until_ready()

    assert kinds(heard) == "EZ"
    assert errors(heard)[0]["C"] == "57014"
    assert status(heard) == ("E" if begun else "I")  # as at the server: the transaction failed
    assert waiting.outcomes[-1:] == ["cancelled"]
    waiting.gateway.record.holding = None
    assert kinds(await waiting.raw.ask(query("rollback" if begun else SSN))) in {"CZ", "TDCZ"}


@pytest.mark.parametrize("leave", ["kill", "close", "abort"])
async def test_session_that_ends_meanwhile_runs_nothing_more(waiting: Waiting, leave: str) -> None:
    await waiting.send(query(SSN))
    session = waiting.session
    ending = None
    if leave == "kill":
        ending = asyncio.create_task(waiting.gateway.registry.kill(session.context.session_id))
    elif leave == "close":
        waiting.raw.close()
    else:
        waiting.raw.writer.transport.abort()
    await wait_for(lambda: bool(session.reason))
    sent = session.upstream.write
    session.upstream.write = lambda data: pytest.fail(f"sent {data[:1]!r}")  # type: ignore[method-assign]

    waiting.durable()
    await wait_for(lambda: bool(waiting.gateway.record.of("session.closed")))
    session.upstream.write = sent  # type: ignore[method-assign]
    if ending is not None:
        await ending

    kinds_told = [entry.kind for entry in waiting.gateway.record.entries]
    assert kinds_told == ["statement.authorised", "statement.completed", "session.closed"]
    assert waiting.outcomes == ["cancelled"]


async def test_draining_gateway_waits_for_it(waiting: Waiting) -> None:
    await waiting.send(query(SSN))
    session = waiting.session
    session.retire()
    await asyncio.sleep(0.05)
    assert not session.reason

    waiting.durable()
    await wait_for(lambda: bool(waiting.gateway.record.of("session.closed")))

    assert waiting.outcomes == ["skipped"]  # it had not begun: the client hears 57P01 and asks elsewhere


@pytest.mark.parametrize("asked", [query, extended])
async def test_rules_that_change_meanwhile_are_asked_again(
    waiting: Waiting, asked: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log is far behind it may wait for seconds, and what allowed it may be gone."""
    await waiting.send(asked(SSN))
    snapshots = waiting.session.services.snapshots
    forbidding = replace(snapshots.current(), version=2, access_rules=())
    monkeypatch.setattr(type(snapshots), "current", lambda _: forbidding)
    waiting.gateway.record.holding = None

    waiting.durable()
    heard = await waiting.raw.until_ready()

    assert kinds(heard) == "EZ"
    assert waiting.outcomes == ["skipped"]
    assert waiting.gateway.record.of("statement.denied")


@pytest.mark.parametrize(("change", "shown"), [({"access_rules": ()}, "EZ"), ({"masking_rules": ()}, "TDCZ")])
async def test_rules_that_change_while_any_record_is_waited_for(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, change: dict[str, tuple[()]], shown: str
) -> None:
    """The control: another version of the rules by which it is decided alike stops nothing."""
    raw = await RawClient.connect(gateway)
    snapshots, append = gateway.services.snapshots, gateway.record.append
    changed = replace(snapshots.current(), version=2, **change)

    async def slow(entry: Entry) -> Receipt:
        receipt = await append(entry)
        if entry.kind == "statement.authorised":
            monkeypatch.setattr(type(snapshots), "current", lambda _: changed)
        return receipt

    monkeypatch.setattr(gateway.record, "append", slow)
    heard = await raw.ask(query("select name from people where id = 3"))

    assert kinds(heard) == shown
    statuses = [entry.body["status"] for entry in gateway.record.of("statement.completed")]
    assert statuses == ["skipped" if shown == "EZ" else "completed"]
