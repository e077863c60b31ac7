"""Big results in flat memory, slow clients, and the private session behind REST."""

from __future__ import annotations

import asyncio
import resource

import pytest

from gateway.session.context import SessionContext, StatementRequest
from gateway.session.pipeline import run_statement
from gateway.session.transport import Denial
from gateway.upstreams.postgres_session import PostgresOpener
from gateway.upstreams.registry import UpstreamFailed
from tests.gateway.listeners.harness import PASSWORD, USER, Gateway
from tests.gateway.listeners.raw import RawClient, errors, query, rows


async def test_slow_client_pauses_the_upstream(gateway: Gateway) -> None:
    gateway.sink.open = lambda **_: _Forgetful()  # type: ignore[method-assign]
    raw = await RawClient.connect(gateway)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    raw.writer.write(query("select ssn, repeat('x', 1000) from people, generate_series(1, 200)"))  # 200 MB
    await asyncio.sleep(1.0)  # the client reads nothing
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    raw.writer.transport.abort()

    assert grown_kib < 30_000


async def test_large_result_is_read_in_flat_memory(gateway: Gateway) -> None:
    gateway.sink.open = lambda **_: _Forgetful()  # type: ignore[method-assign]
    raw = await RawClient.connect(gateway)
    everything = query("select ssn, repeat('x', 100) from people, generate_series(1, 400)")  # 400,000 rows

    await read_through(raw, query("select ssn, repeat('x', 100) from people, generate_series(1, 20)"))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = await read_through(raw, everything)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib

    assert size > 13_000_000
    assert grown_kib < 5_000


async def read_through(raw: RawClient, request: bytes) -> int:
    """Send it and look at nothing but the end of the answer; returns how much came."""
    raw.writer.write(request)
    size, tail = 0, b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        data = await asyncio.wait_for(raw.reader.read(1 << 16), 60)
        assert data
        size, tail = size + len(data), (tail + data)[-6:]
    return size


async def test_result_that_cannot_be_recorded_is_withheld(gateway: Gateway) -> None:
    def full(**_: object) -> None:
        raise OSError("no space for 078-05-0001")

    gateway.sink.open = full  # type: ignore[method-assign,assignment]
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("select ssn from people"))
    got = await raw.until("E")
    raw.close()

    assert errors(got)[0]["V"] == "FATAL"
    assert not rows(got)
    assert gateway.record.of("statement.completed")[0].body["status"] == "failed"


class _Forgetful:
    behind = False

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> str:
        return ""

    async def abort(self) -> None: ...


class OneShot:
    """A transport that gathers what a REST caller would get."""

    def __init__(self, opener: PostgresOpener, session: SessionContext) -> None:
        self.opener, self.session = opener, session
        self.rows: list[list[str | None]] = []
        self.columns: list[tuple[str, bool]] = []
        self.tag = ""
        self.denial: Denial | None = None
        self.failed: UpstreamFailed | None = None
        self.gone = asyncio.Event()

    async def send_denied(self, denial: Denial) -> None:
        self.denial = denial

    async def send_pending(self, review) -> None: ...

    async def send_resumed(self, resumption) -> None: ...

    def may_run_modified(self, permit_text: str) -> bool:
        return True

    async def execute(self, permit) -> None:
        upstream = await self.opener(self.session.connection)
        self.session.role, self.session.search_path = upstream.role, upstream.search_path
        try:
            stream = await upstream.execute(permit)
            self.columns = [(c.name, f.mask is not None) for c, f in zip(stream.columns, stream.fields, strict=True)]
            async for batch in stream.batches():
                self.rows += batch
            self.tag = stream.command_tag
        except UpstreamFailed as failed:
            self.failed = failed
        finally:
            await upstream.close()


async def one_shot(gateway: Gateway, text: str, *values: bytes) -> OneShot:
    async def credential(spec) -> dict[str, str]:
        return {"username": USER, "password": PASSWORD}

    principal = await gateway.door.authenticate(
        user="demo-agent", secret="a-token-that-opens", connection="people", client_address="", tls=""
    )
    spec = gateway.services.snapshots.current().connections["people"]
    session = SessionContext(principal, spec, "rest")
    transport = OneShot(PostgresOpener(credential, gateway.sink), session)
    request = StatementRequest(text, tuple(values), (0,) * len(values), (0,) * len(values))
    await run_statement(gateway.services, session, request, transport)
    return transport


async def test_private_session_streams_masked_text(gateway: Gateway) -> None:
    got = await one_shot(gateway, "select id, ssn, born from people where id <= $1", b"1500")

    assert got.columns == [("id", False), ("ssn", True), ("born", True)]
    assert len(got.rows) == 1000
    assert got.rows[0][0] == "1"
    assert "078-05" not in str(got.rows)
    assert got.tag == "SELECT 1000"
    completed = gateway.record.of("statement.completed")[0].body
    assert (completed["rows"], completed["status"]) == (1000, "completed")
    assert completed["recording"]


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [("select nothing", "42703"), ("select ssn::int from people", "22P02"), ("select 1/0", "22012")],
)
async def test_private_session_reports_scrubbed_errors(gateway: Gateway, text: str, sqlstate: str) -> None:
    got = await one_shot(gateway, text)

    assert got.failed is not None
    assert got.failed.sqlstate == sqlstate
    assert "078-05" not in got.failed.message
    assert gateway.record.of("statement.completed")[0].body["status"] == "failed"


async def test_private_session_refuses_copy(gateway: Gateway) -> None:
    got = await one_shot(gateway, "copy people to stdout")

    assert got.failed is not None
    assert got.failed.sqlstate == "0A000"
