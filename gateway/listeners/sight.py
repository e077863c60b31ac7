"""What a principal may see of a connection: every table, every column, and the rule that says so.

Nothing is derived from the rules by a second reasoning of our own: each answer is what the pipeline decides on a
statement a client would really send (a few rows, all rows, a change), so it cannot drift from what will happen. Nothing
runs, and no value is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.explain import described_decision, described_masks
from gateway.session import entries
from gateway.session.assessment import Assessment, Denied, assess
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.services import Services, TableDescription, UpstreamRejected

MAX_TABLES = 100  # of one answer; each costs an analysis
FEW_ROWS = 10
_QUOTES = {"bigquery": "`"}  # of kinds that do not follow the standard's double quotes

# Types whose values no detector reads (docs/known-limitations.md, Masking): numbers, dates, truth values.
_NEVER_SEARCHED = frozenset(
    {"bool", "boolean", "int2", "int4", "int8", "integer", "int64", "float4", "float8", "float64", "numeric"}
    | {"bignumeric", "date", "time", "timetz", "timestamp", "timestamptz", "datetime", "interval"}
)

Answer = dict[str, Any]


class NotDescribed(Exception):
    """The tables cannot be told; the message is a sentence for the client."""


async def describe(
    services: Services,
    principal: Principal,
    spec: ConnectionSpec,
    *,
    table: str = "",
    offset: int = 0,
    client_address: str = "",
    viewer: str = "",
    names_only: bool = False,
) -> Answer:
    """Return every table with what reading it would be answered with, or `table` (schema.name) column by column.

    `names_only` leaves out what reading each would be answered with. Recorded before it is told. Raises NotDescribed.
    """
    session = SessionContext(principal=principal, connection=spec, protocol="describe", client_address=client_address)
    known = await _tables(services, session)
    chosen = [found for found in known if not table or table in {f"{found.schema}.{found.name}", found.name}]
    await services.record.append(entries.described(session, table or f"{len(known)} tables", viewer=viewer))
    if table and not chosen:
        raise NotDescribed("there is no such table, or it is not shown to you")
    if table:
        return {"tables": [await _in_full(services, session, found) for found in chosen[:1]], "next_offset": None}
    page = known[offset : offset + MAX_TABLES]
    listed = [_names(found) if names_only else await _in_brief(services, session, found) for found in page]
    following = offset + len(page)
    return {"tables": listed, "next_offset": following if following < len(known) else None}


async def _tables(services: Services, session: SessionContext) -> Sequence[TableDescription]:
    analyst = services.analysts.get(session.connection.kind)
    if analyst is None or not hasattr(analyst, "tables"):
        raise NotDescribed(f"tables of {session.connection.kind} connections are not listed; ask its own catalogue")
    try:
        return await analyst.tables(session)
    except UpstreamRejected as rejected:
        raise NotDescribed(rejected.message) from None


async def _in_brief(services: Services, session: SessionContext, table: TableDescription) -> Answer:
    names = _whole_columns(table)
    decision, _ = await _asked(services, session, _read(session, table, names))
    return {**_named(table), "columns": len(names), "read": decision}


def _names(table: TableDescription) -> Answer:
    return {**_named(table), "columns": len(table.columns), "column_names": [name for name, _ in table.columns]}


async def _in_full(services: Services, session: SessionContext, table: TableDescription) -> Answer:
    names = _whole_columns(table)
    read, masks = await _asked(services, session, _read(session, table, names))
    read_all, _ = await _asked(services, session, _read(session, table, names, limit=None))
    change, _ = await _asked(services, session, _change(session, table))
    columns: list[Answer] = []
    decision_alone, alone = read, masks  # of the column a field is part of, which stands before it
    for name, type_name in table.columns:
        decision, mask = read, _nearest(masks, name)
        if read["action"] != "allow":  # not the whole table: ask about this column alone
            if name in names:
                decision_alone, alone = await _asked(services, session, _read(session, table, [name]))
            decision, mask = decision_alone, _nearest(alone, name)
        columns.append({"name": name, "type": type_name, **_outlook(decision, mask, type_name)})
    return {**_named(table), "columns": columns, "read": read, "read_all": read_all, "change": change}


def _change(session: SessionContext, table: TableDescription) -> str:
    """A write of some rows, not of all: what `no_where` policies ask is another question."""
    some = "ctid IS NULL" if session.connection.kind == "postgres" and table.kind == "table" else "FALSE"
    return f"DELETE FROM {_place(session, table)} WHERE {some}"  # noqa: S608


def _outlook(decision: Answer, mask: Mapping[str, Any], type_name: str) -> Answer:
    """How a column comes out: clear, searched by detectors, masked, held or denied, and by which rule."""
    if decision["action"] != "allow":
        state = "held" if decision["action"] == "require_approval" else "denied"
        return {"state": state, "rule": decision["rule"], "technique": None}
    if mask.get("masked"):
        return {"state": "masked", "rule": mask["rule"], "technique": mask["technique"]}
    searched = mask.get("scans_text") and type_name.lower() not in _NEVER_SEARCHED
    return {"state": "searched" if searched else "clear", "rule": mask["rule"] if searched else None, "technique": None}


async def _asked(services: Services, session: SessionContext, text: str) -> tuple[Answer, dict[str, Answer]]:
    """The decision on a statement, and its masks by column."""
    try:
        assessment = await assess(services, session, StatementRequest(text))
    except Denied as denied:
        return {"action": "deny", "rule": denied.rule, "code": denied.code, "reason": denied.reason}, {}
    return described_decision(assessment.decision), _masks(assessment)


def _masks(assessment: Assessment) -> dict[str, Answer]:
    told = described_masks(assessment)
    return {mask["column"]: mask for each in told for mask in (each, *each.get("fields", ()))}


def _whole_columns(table: TableDescription) -> list[str]:
    """Fields of records (`contact.email`) are read with their record: of a repeated one nothing else can be."""
    return [name for name, _ in table.columns if not _is_field(table, name)]


def _is_field(table: TableDescription, name: str) -> bool:
    above = name.rpartition(".")[0]
    return bool(above) and any(other == above for other, _ in table.columns)


def _nearest(masks: Mapping[str, Answer], name: str) -> Answer:
    """A field's own mask, or that of what it is part of."""
    while name and name not in masks:
        name = name.rpartition(".")[0]
    return masks.get(name, {})


def _read(session: SessionContext, table: TableDescription, names: Sequence[str], limit: int | None = FEW_ROWS) -> str:
    columns = ", ".join(_quoted(session, name) for name in names) or "1"
    bound = "" if limit is None else f" LIMIT {limit}"
    return f"SELECT {columns} FROM {_place(session, table)}{bound}"  # noqa: S608, quoted names of the catalogue


def _place(session: SessionContext, table: TableDescription) -> str:
    return f"{_quoted(session, table.schema)}.{_quoted(session, table.name)}"


def _quoted(session: SessionContext, name: str) -> str:
    quote = _QUOTES.get(session.connection.kind, '"')
    return f"{quote}{name.replace(quote, quote * 2)}{quote}"


def _named(table: TableDescription) -> Answer:
    return {"schema": table.schema, "name": table.name, "kind": table.kind}
