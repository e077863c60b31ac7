"""A private PostgreSQL session for surfaces that ask once and stream the answer: REST, WebSocket, MCP.

The same relay masks, scrubs, counts and records as for native clients; here its "client" is a small reader that turns
the frames a client would have got into rows of text.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.protocols.postgres.datarow import DATA_ROW, row_values
from gateway.protocols.postgres.frames import split_frames
from gateway.protocols.postgres.meaning import MEANINGFUL, settings_text
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.upstreams.postgres import CONNECT_TIMEOUT_S, UpstreamConnection, UpstreamCredential, connect
from gateway.upstreams.postgres_execution import Execution, Shape
from gateway.upstreams.postgres_expectations import Complete, Description, Ready, Result, Rows
from gateway.upstreams.postgres_relay import Relay
from gateway.upstreams.postgres_turns import Turns
from gateway.upstreams.recording import RecordingSink
from gateway.upstreams.registry import UpstreamFailed
from gateway.upstreams.valve import Valve
from masking.domain.field import FieldMask, ResultColumn

# Frames read but not yet asked for: past this the upstream is not read.
MAX_BUFFERED_BYTES = 1 << 20
MAX_BATCH_ROWS = 1_000

_STATE = "select current_user::text, " + ", ".join(
    f"pg_catalog.current_setting('{name}')" for name in ("search_path", *MEANINGFUL)
)


class PostgresOpener:
    """Fulfils `OpenUpstream` for connections of kind postgres."""

    def __init__(self, upstream_credential: UpstreamCredential, recordings: RecordingSink | None = None) -> None:
        self._upstream_credential = upstream_credential
        self._recordings = recordings

    async def __call__(self, spec: ConnectionSpec) -> PostgresUpstreamSession:
        connection = await connect(spec, await self._upstream_credential(spec))
        session = PostgresUpstreamSession(connection, phi=spec.phi, recordings=self._recordings)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await session.learn_state()
        except TimeoutError:
            connection.abort()
            raise UpstreamFailed("the upstream did not answer in time", sqlstate="08001") from None
        except BaseException:
            connection.abort()
            raise
        return session


class PostgresUpstreamSession:
    """One session, one statement at a time."""

    def __init__(self, connection: UpstreamConnection, *, phi: bool, recordings: RecordingSink | None) -> None:
        self.role = ""
        self.search_path = ""
        self.settings = ""
        self.tls = connection.tls
        self._connection = connection
        self._recordings = recordings
        self._stream: PostgresResultStream | None = None
        self._relay = Relay(write=self._take, phi=phi, woken=self._wake)
        self._valve = Valve(connection.pause_reading, connection.resume_reading)
        self._turns = Turns(
            self._relay,
            handle=self._relay.feed,
            pause=partial(self._valve.hold, "turns"),
            resume=partial(self._valve.release, "turns"),
        )
        connection.receive = self._turns.take
        connection.lost = self._lost

    async def learn_state(self) -> None:
        """Ask for the role and search_path in the server's own words; raises UpstreamFailed when it will not say."""
        answer: asyncio.Future[list[list[bytes | None]] | None] = asyncio.get_running_loop().create_future()
        self._relay.push(Complete(server.PARSE_COMPLETE, hidden=True))
        self._relay.push(Complete(server.BIND_COMPLETE, hidden=True))
        self._relay.push(Rows(answer))
        self._relay.push(Ready(hidden=True))
        self._connection.write(
            client.encode_parse(Parse("", _STATE, ()))
            + client.encode_bind(Bind("", "", (), (), ()))
            + client.encode_execute(Execute("", 0))
            + client.SYNC_FRAME
        )
        rows = await answer
        if not rows:
            raise UpstreamFailed("the upstream did not say who we are there")
        self.role, self.search_path, *settings = ((value or b"").decode() for value in rows[0])
        self.settings = settings_text(settings)

    async def execute(self, permit: ExecutionPermit) -> PostgresResultStream:
        """Send the permitted statement; returns when its columns are known. Raises UpstreamFailed."""
        if permit.analysis.copy is not None:
            permit.consume()
            permit.complete(Outcome(status="failed", error="0A000"))
            raise UpstreamFailed("COPY needs a native PostgreSQL connection", sqlstate="0A000")
        request = permit.consume()
        execution = Execution(permit, recordings=self._recordings)
        self._stream = stream = PostgresResultStream(self._valve, self._relay, execution, answer=self._connection.write)
        text = request.text
        self._relay.push(Complete(server.PARSE_COMPLETE, hidden=True, execution=execution, text=text))
        self._relay.push(Complete(server.BIND_COMPLETE, hidden=True, execution=execution, text=text))
        self._relay.push(Description(Shape(), execution=execution))
        self._relay.push(Result(execution, last_of_query=True))
        self._relay.push(Ready())
        self._connection.write(
            client.encode_parse(Parse("", text, request.parameter_types))
            + client.encode_bind(Bind("", "", request.parameter_formats, request.parameters, ()))
            + client.encode_describe(Target("P", ""))
            + client.encode_execute(Execute("", 0))
            + client.SYNC_FRAME
        )
        await stream.described()
        return stream

    def rules_changed(self) -> bool:
        """Have what runs ask about its masks again; False when it is not allowed any more."""
        looked = [execution.rules_changed() for execution in self._relay.executions]
        return all(looked)

    async def cancel(self) -> None:
        """Cancel what runs now, if anything does."""
        if self._relay.running is not None:
            await self._connection.cancel()

    async def close(self) -> None:
        """End the session; an execution still under way is cancelled and recorded so."""
        if self._relay.running is not None and not self._connection.closed:
            await self._connection.cancel()
        running = self._relay.running
        self._relay.abandon("cancelled")
        self._connection.close()
        if running is not None and running.sealing is not None:
            await asyncio.wait({running.sealing})

    def _lost(self) -> None:
        self._turns.finish()
        self._relay.lost()

    def _take(self, data: bytes) -> None:
        if self._stream is not None:
            self._stream.take(data)

    def _wake(self) -> None:
        if self._stream is not None:
            self._stream.wake()


class PostgresResultStream:
    """The masked result of one execution, batch by batch, as text values."""

    def __init__(self, valve: Valve, relay: Relay, execution: Execution, *, answer: Callable[[bytes], None]) -> None:
        self.columns: Sequence[ResultColumn] = ()
        self.fields: Sequence[FieldMask] = ()
        self.command_tag = ""
        self.row_count = 0
        self._valve = valve
        self._answer = answer
        self._relay = relay
        self._execution = execution
        self._frames: deque[tuple[int, bytes]] = deque()
        self._buffered = 0
        self._changed = asyncio.Event()
        self._described = False
        self._finished = False
        self._failure: UpstreamFailed | None = None

    def take(self, data: bytes) -> None:
        """Called by the relay with what a client would have got."""
        self._frames.extend(split_frames(data))
        self._buffered += len(data)
        if self._buffered > MAX_BUFFERED_BYTES:
            self._valve.hold("reader")
        self._changed.set()

    def wake(self) -> None:
        self._changed.set()

    async def described(self) -> None:
        while not self._described:
            await self._handle_next([])
        if self._failure is not None:
            await self._to_the_end()
            raise self._failure

    async def batches(self) -> AsyncIterator[list[list[str | None]]]:
        while not self._finished:
            batch: list[list[str | None]] = []
            await self._handle_next(batch)
            while self._frames and len(batch) < MAX_BATCH_ROWS and not self._finished:
                await self._handle_next(batch)
            self.row_count += len(batch)
            if batch:
                yield batch
        await self._sealed()
        if self._failure is not None:
            raise self._failure

    async def _to_the_end(self) -> None:
        while not self._finished:
            await self._handle_next([])
        await self._sealed()

    async def _sealed(self) -> None:
        if self._execution.sealing is not None:
            await self._execution.sealing

    async def _handle_next(self, batch: list[list[str | None]]) -> None:
        while not self._frames:
            if self._relay.broken:
                self._fail("the upstream was lost", "08006")
                self._finished = True
                return
            self._changed.clear()
            await self._changed.wait()
        kind, body = self._frames.popleft()
        self._buffered -= len(body) + 5
        if self._buffered < MAX_BUFFERED_BYTES // 2:
            self._valve.release("reader")
        self._handle(kind, body, batch)

    def _handle(self, kind: int, body: bytes, batch: list[list[str | None]]) -> None:
        match kind:
            case server.ROW_DESCRIPTION:
                self._describe(body)
            case server.NO_DATA | server.EMPTY_QUERY:
                self._described = True
            case int() if kind == DATA_ROW:
                batch.append([None if v is None else v.decode("utf-8", "replace") for v in row_values(body)])
            case server.COMMAND_COMPLETE:
                self.command_tag = body[:-1].decode("utf-8", "replace")
            case server.ERROR:
                fields = server.decode_error(body)
                position = fields.get("P", "")
                self._fail(fields.get("M", ""), fields.get("C", ""), int(position) if position.isdigit() else 0)
            case server.READY:
                self._finished = self._described = True
            case server.COPY_IN:
                self._answer(client.encode_copy_fail("copy data is not available here"))

    def _describe(self, body: bytes) -> None:
        self.columns = [
            ResultColumn(name=f.name, type_oid=f.type_oid, table_oid=f.table_oid, attribute=f.attribute)
            for f in server.decode_row_description(body)
        ]
        plan = self._execution.plan
        self.fields = plan.fields if plan is not None else ()
        self._described = True

    def _fail(self, message: str, sqlstate: str, position: int = 0) -> None:
        self._failure = self._failure or UpstreamFailed(message, sqlstate=sqlstate or "XX000", position=position)
        self._described = True
