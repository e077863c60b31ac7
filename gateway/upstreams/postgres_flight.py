"""Commands sent to a side connection together and answered together: one trip to the database for all of them.

libpq's pipeline, driven without psycopg's cursors: what is asked of every statement nobody has seen before must cost
little. Every command travels by the extended protocol, which takes one command. What is the same every time (`Fixed`)
is prepared once a connection (`prepare_all`) and only bound afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection, generators
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from analysis.making import quickly_made

# A watched socket may fall silent for good: libuv stops watching one that was reset, and tells so once, while there may
# be more to read than is read at once. So it is looked at again, however quiet it is.
LOOK_S = 0.2
# Between two answers. The server itself ends what takes longer than some seconds; one that says nothing is cut off.
SILENCE_S = 60.0
# Looked up once: a member of an enumeration is found by Python code each time (3.11).
_CONNECTED = ConnStatus.OK
_FAILED, _SYNCED = ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_SYNC


class Silent(psycopg.Error):
    """The database says nothing. To ask it once more would take as long again."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A command that was prepared under `name`. Call it with its parameters."""

    name: str
    text: str

    def __call__(self, *parameters: str) -> Command:
        return Command(self.text, parameters, self.name.encode())


@quickly_made
@dataclass(frozen=True, slots=True)
class Command:
    """`text` is sent, or with `prepared` what the connection knows by that name is run."""

    text: str
    parameters: tuple[str, ...] = ()
    prepared: bytes = b""

    def send(self, pgconn: PGconn) -> None:
        given = [parameter.encode() for parameter in self.parameters] if self.parameters else None
        if self.prepared:
            pgconn.send_query_prepared(self.prepared, given)
        else:
            pgconn.send_query_params(self.text.encode(), given)


@dataclass(frozen=True, slots=True)
class Preparation:
    """`text` is parsed under `name` and described: the answer tells its parameters' types. Nothing runs."""

    text: str
    parameter_types: tuple[int, ...] = ()  # OIDs, 0 where the server is to infer them
    name: bytes = b""

    def send(self, pgconn: PGconn) -> None:
        pgconn.send_prepare(self.name, self.text.encode(), self.parameter_types)
        pgconn.send_describe_prepared(self.name)


async def prepare_all(connection: AsyncConnection[Any], commands: Iterable[Fixed]) -> None:
    """Make the commands known to the connection. Raises psycopg.Error."""
    await fly(connection, [Preparation(fixed.text, name=fixed.name.encode()) for fixed in commands])


async def fly(
    connection: AsyncConnection[Any],
    commands: Sequence[Command | Preparation],
    *,
    meanwhile: Callable[[], None] | None = None,
) -> list[PGresult]:
    """Return the answers in order, two to a `Preparation`. Raises psycopg.Error: what follows a failure is not run.

    `meanwhile` is called as soon as everything is sent: what can be done here while the database answers.

    The connection is whole again afterwards, perhaps inside a failed transaction (`rolled_back`). Whoever is cancelled
    meanwhile must close it: its answers no longer belong to anybody's questions.
    """
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    for command in commands:
        command.send(pgconn)
    pgconn.pipeline_sync()
    if pgconn.flush():  # more than the socket takes at once
        await connection.wait(generators.send(pgconn))
    if meanwhile is not None:
        meanwhile()
    results = await _landed(pgconn)
    pgconn.exit_pipeline_mode()
    for result in results:
        if result.status == _FAILED:
            raise error_from_result(result, connection.info.encoding)
    return results


async def rolled_back(connection: AsyncConnection[Any]) -> None:
    """Leave whatever transaction a flight that failed was in."""
    if not connection.closed and connection.pgconn.transaction_status != TransactionStatus.IDLE:
        await connection.rollback()


def rows_of(result: PGresult) -> list[list[str | None]]:
    """The rows of an answer, as text."""
    return [[_text(result.get_value(row, column)) for column in range(result.nfields)] for row in range(result.ntuples)]


def _text(value: bytes | None) -> str | None:
    return None if value is None else bytes(value).decode()


async def _landed(pgconn: PGconn) -> list[PGresult]:
    """Every answer up to the pipeline's end."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] | None = None

    def arrived() -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    results: list[PGresult] = []
    socket = pgconn.socket
    loop.add_reader(socket, arrived)
    try:
        while True:
            until = loop.time() + SILENCE_S
            while pgconn.is_busy():
                if loop.time() > until:
                    raise Silent("the database does not answer")
                waiting = loop.create_future()
                timer = loop.call_later(LOOK_S, arrived)
                try:
                    await waiting
                finally:
                    timer.cancel()
                pgconn.consume_input()
            result = pgconn.get_result()
            if pgconn.status != _CONNECTED:
                raise psycopg.OperationalError("the connection was lost")
            if result is None:  # the end of one command's answers
                continue
            if result.status == _SYNCED:
                return results
            results.append(result)
    finally:
        loop.remove_reader(socket)
