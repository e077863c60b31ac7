"""COPY: data from the client goes up as it comes; what COPY sends down is masked like rows, by type."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.listeners.postgres_session import ClientSession
from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.frames import ProtocolViolation, frame
from gateway.protocols.postgres.server import Field
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.upstreams.postgres_copied import asks_by_null
from gateway.upstreams.postgres_execution import Execution
from masking.domain.field import ResultColumn

# The server does not describe the columns of a COPY; their types come from where the analysis says they come from.
_TYPES_QUESTION = (
    "select coalesce((select a.atttypid::pg_catalog.int8 from pg_catalog.pg_attribute a "
    "join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) a.attrelid "
    "join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace "
    "where n.nspname operator(pg_catalog.=) $1::pg_catalog.name "
    "and c.relname operator(pg_catalog.=) $2::pg_catalog.name "
    "and a.attname operator(pg_catalog.=) $3::pg_catalog.name and not a.attisdropped), 0)"
)
_TEXT = 25


_Refusal = tuple[str, str]  # message, hint
_COMPUTED: _Refusal = (
    "a masked column that is computed cannot be copied in binary format",
    "Copy it in text or CSV format.",
)
_GUESSED: _Refusal = (
    "the NULL of this COPY could be a value of a masked column",
    "Leave NULL as it is (\\N), or copy in CSV format.",
)


class _Unmaskable(Exception):
    """What the masks cannot hold, as a `_Refusal`."""


async def copied_columns(session: ClientSession, permit: ExecutionPermit) -> tuple[Field, ...] | None:
    """Return the columns a COPY shows, typed where masks need types; None: refused, for a mask it cannot hold."""
    if not permit.analysis.complete or permit.analysis.outputs is None:
        return ()
    try:
        fields = await _typed_columns(session, permit)
        if asks_by_null(permit.plan_for(_described(fields)), permit.analysis.copy):
            raise _Unmaskable(*_GUESSED)
    except _Unmaskable as unmaskable:
        _refuse(session, permit, *unmaskable.args)
        return None
    return fields


def _described(fields: Sequence[Field]) -> list[ResultColumn]:
    return [ResultColumn(name=f.name, type_oid=f.type_oid, format=f.format) for f in fields]


async def _typed_columns(session: ClientSession, permit: ExecutionPermit) -> tuple[Field, ...]:
    outputs = permit.analysis.outputs or ()
    fields = [Field(output.name, 0, 0, _TEXT, 0) for output in outputs]
    plan = permit.plan_for(_described(fields))
    binary = permit.analysis.copy is not None and permit.analysis.copy.format == "binary"
    for index, (output, mask) in enumerate(zip(outputs, plan.fields, strict=True)):
        if mask.mask is None and not binary:
            continue
        stored = output.origins[0].column if len(output.origins) == 1 and output.resolved else None
        oid = 0
        if stored is not None and output.origins[0].transform == "identity":
            rows = await session.questions.one(_TYPES_QUESTION, (stored.schema, stored.table, stored.column))
            oid = int(rows[0][0] or 0) if rows else 0
        if not oid and binary and mask.mask is not None:
            raise _Unmaskable(*_COMPUTED)
        fields[index] = Field(output.name, 0, 0, oid or _TEXT, int(binary))
    return tuple(fields)


def _refuse(session: ClientSession, permit: ExecutionPermit, message: str, hint: str) -> None:
    permit.complete(Outcome(status="failed", error="42501"))
    session.refuse(server.error(sqlstate="42501", message=message, hint=hint))


async def converse(session: ClientSession, execution: Execution, *, simple: bool) -> None:
    """Stay with a COPY until it is over or needs the client no more.

    While the server takes copy data it ignores Flush and Sync (message flow, "COPY Operations"), so libpq's Sync behind
    its Execute must not be counted as an answered one. A failed COPY is answered at once, whatever the client sends.
    """
    session.push_answers()
    await session.drained_or(lambda: execution.copying_in)
    if not execution.copying_in or execution.finished:
        return
    while True:
        message = await session.next_frame(lambda: execution.finished or bool(session.reason or session.relay.broken))
        if message is None:
            return
        kind, body = message
        if kind == client.COPY_DATA:
            await session.forward(frame(b"d", body))
        elif kind in {client.COPY_DONE, client.COPY_FAIL}:
            await session.forward(frame(bytes([kind]), body))
            return
        elif kind == client.TERMINATE:
            session.end("client")
            return
        elif kind not in {client.FLUSH, client.SYNC} or simple:
            raise ProtocolViolation("a message that does not belong into copy data")
