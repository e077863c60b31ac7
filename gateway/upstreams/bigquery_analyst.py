"""Both readings of a BigQuery statement, compared: sqlglot's over the warehouse's own definitions, and the dry run.

Nothing is remembered but the columns of plain tables, for a minute: a view or a function may be redefined at any time,
and the dry run (asked for every statement) would not notice a change within the same tables. Bytes processed depend on
literals, so no analysis is shared between texts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from analysis.bigquery.agree import agree
from analysis.bigquery.destinations import destination_path, load_analysis
from analysis.bigquery.dryrun import BigQueryReader, DryRun, DryRunError, FieldSchema, Routine, TablePath, TableSchema
from analysis.bigquery.names import (
    MAX_SHARDS,
    Defaults,
    Definitions,
    NameProblem,
    is_information_schema,
    is_wildcard,
)
from analysis.bigquery.read import Needed, TextReading, needed, read_text
from analysis.estimate import UNKNOWN, RowsExpected
from analysis.statement import Analysis, Statement
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.context import SessionContext
from gateway.session.services import Recollection, TableDescription, UpstreamRejected
from gateway.upstreams.registry import UpstreamFailed

logger = logging.getLogger(__name__)

TABLE_AGE_S = 60.0
MAX_TABLES = 200  # named, and reached through views
MAX_PROBES = 50  # dry runs of one script
MAX_ROUNDS = 20  # of views upon views
MAX_REMEMBERED = 5000
AT_ONCE = 8
SHORT_TEXT = 4000  # characters: read within some milliseconds, not worth a thread

_SQLSTATES = {"notFound": "42P01", "accessDenied": "42501", "invalidQuery": "42601", "invalid": "42601"}
_UNREACHABLE = (UpstreamFailed, OSError, TimeoutError)
T = TypeVar("T")


@dataclass(slots=True)
class _Found:
    """What the service described so far, for one statement."""

    tables: dict[TablePath, TableSchema] = field(default_factory=dict)
    shards: dict[TablePath, tuple[str, ...]] = field(default_factory=dict)
    routines: dict[TablePath, Routine] = field(default_factory=dict)
    asked: set[TablePath] = field(default_factory=set)


class BigQueryAnalyst:
    """`gateway.session.services.Analyst` for connections of kind `bigquery`."""

    def __init__(self, reader: BigQueryReader[ConnectionSpec]) -> None:
        self._reader = reader
        self._tables: dict[tuple[str, TablePath], tuple[float, TableSchema]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        """Return what `statement` does. Raises UpstreamRejected for what the service refuses to run."""
        spec = session.connection
        defaults = _defaults(session)
        if statement.destination is not None and statement.destination.columns is not None:
            return load_analysis(statement, await self._definitions(spec, _destination(statement, defaults), defaults))
        whole = await self._whole_run(spec, statement, session.search_path)
        pending = needed(statement.text, defaults)
        pending.tables |= _destination(statement, defaults).tables
        definitions = await self._definitions(spec, pending, defaults)
        text = await _in_time(statement.text, lambda: read_text(statement.text, definitions, defaults))
        runs = await self._runs(spec, statement, session.search_path, text, whole)
        return await _in_time(
            statement.text, lambda: agree(statement=statement, text=text, runs=runs, definitions=definitions)
        )

    def recall(self, session: SessionContext, text: str, parameter_types: tuple[int, ...]) -> Analysis | None:
        """Nothing is remembered: see above."""
        return None

    async def expect(self, session: SessionContext, analysis: Analysis) -> RowsExpected:
        """A dry run tells bytes (`Facts.estimated_bytes`), never rows."""
        return UNKNOWN

    def recollect(
        self, session: SessionContext, text: str, parameter_types: tuple[int, ...], found: Analysis
    ) -> Recollection | None:
        return None

    async def prepared(self, session: SessionContext, identifier: str) -> int | None:
        """There is no two-phase commit."""
        return None

    async def tables(self, session: SessionContext) -> Sequence[TableDescription]:
        """The tables and views of the connection's project, as many as are described at all; nested fields by path.

        Raises UpstreamRejected where the project cannot be asked: that is not the same as one without tables.
        """
        spec = session.connection
        project = _defaults(session).project
        try:
            datasets = await self._reader.datasets(spec, project)
        except UpstreamFailed as failed:
            raise UpstreamRejected(sqlstate=failed.sqlstate, message=failed.message) from None
        paths = [
            TablePath(project, dataset, table)
            for dataset in datasets
            for table in await self._asked(partial(self._reader.tables, spec, project, dataset)) or ()
        ][:MAX_TABLES]
        schemas = await asyncio.gather(*(self._table(spec, _Found(), path) for path in paths))
        described = zip(paths, schemas, strict=True)
        return sorted(
            (_described_table(path, schema) for path, schema in described if schema is not None),
            key=lambda table: (table.schema, table.name),
        )

    async def close(self) -> None:
        self._tables.clear()

    # --- dry runs ---

    async def _whole_run(self, spec: ConnectionSpec, statement: Statement, default_dataset: str) -> DryRun | None:
        """The dry run of the exact text; its refusal is what the client would hear from the service."""
        run = await self._dry_run(spec, statement.text, _parameters(statement), default_dataset)
        if run is not None and run.error is not None:
            raise _rejection(run.error)
        return run

    async def _runs(
        self, spec: ConnectionSpec, statement: Statement, default_dataset: str, text: TextReading, whole: DryRun | None
    ) -> Mapping[str, DryRun]:
        runs = {} if whole is None else {statement.text: whole}
        probes = {part.probe for part in text.parts if part.probe is not None and part.needs_probe} - set(runs)
        if len(probes) > MAX_PROBES:
            return runs  # parts without a second reading are a problem of their own
        parameters = _parameters(statement)
        wanted = sorted(probes)
        answers = await asyncio.gather(*(self._dry_run(spec, probe, parameters, default_dataset) for probe in wanted))
        return runs | {probe: run for probe, run in zip(wanted, answers, strict=True) if run is not None}

    async def _dry_run(
        self, spec: ConnectionSpec, text: str, parameters: list[dict[str, Any]], default_dataset: str
    ) -> DryRun | None:
        return await self._asked(lambda: self._reader.dry_run(spec, text, parameters, default_dataset))

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """Fail closed: without an answer there is no second reading, so the analysis is incomplete."""
        async with self._gate:
            try:
                return await question()
            except _UNREACHABLE as error:
                logger.warning("second reading failed: error=%s", type(error).__name__)
                return None

    # --- definitions ---

    async def _definitions(self, spec: ConnectionSpec, pending: Needed, defaults: Defaults) -> Definitions:
        """Everything a text names, and what the views and functions it names are made of."""
        found = _Found()
        for _ in range(MAX_ROUNDS):
            tables, routines = pending.tables - found.asked, pending.routines - found.asked
            if (not tables and not routines) or len(found.asked) > MAX_TABLES:
                break
            found.asked |= tables | routines
            pending = await self._described(spec, found, tables, routines)
        return Definitions(
            home=defaults.project,
            projects=frozenset(spec.settings.get("projects", "").replace(",", " ").split()),
            tables=found.tables,
            shards=found.shards,
            routines=found.routines,
        )

    async def _described(
        self, spec: ConnectionSpec, found: _Found, tables: Iterable[TablePath], routines: Iterable[TablePath]
    ) -> Needed:
        """Describe one layer; return what it is made of."""
        beneath = Needed()
        schemas = await asyncio.gather(*(self._table(spec, found, path) for path in tables))
        for path, schema in zip(tables, schemas, strict=True):
            if schema is not None:
                found.tables[path] = schema
                _add(beneath, schema.query, Defaults(path.project))
        bodies = await asyncio.gather(*(self._routine(spec, path) for path in routines))
        for path, routine in zip(routines, bodies, strict=True):
            if routine is not None:
                found.routines[path] = routine
                _add(beneath, f"SELECT ({routine.body}\n)" if routine.language == "SQL" else "", Defaults(path.project))
        return beneath

    async def _table(self, spec: ConnectionSpec, found: _Found, path: TablePath) -> TableSchema | None:
        if is_information_schema(path) or is_wildcard(path):
            if is_wildcard(path):
                await self._list_shards(spec, found, path)
            return await self._by_dry_run(spec, path)
        key = (spec.name, path)
        known = self._tables.get(key)
        if known is not None and time.monotonic() - known[0] < TABLE_AGE_S:
            return known[1]
        schema = await self._asked(lambda: self._reader.table(spec, path.project, path.dataset, path.table))
        if schema is not None and schema.kind == "TABLE":
            if len(self._tables) >= MAX_REMEMBERED:
                self._tables.clear()
            self._tables[key] = (time.monotonic(), schema)
        return schema

    async def _routine(self, spec: ConnectionSpec, path: TablePath) -> Routine | None:
        return await self._asked(lambda: self._reader.routine(spec, path.project, path.dataset, path.table))

    async def _by_dry_run(self, spec: ConnectionSpec, path: TablePath) -> TableSchema | None:
        """The columns of what has no resource of its own: a wildcard, a view of INFORMATION_SCHEMA."""
        name = f"{path.project}.{path.dataset}" if path.dataset else path.project
        if "`" in name + path.table:
            return None
        table = f"`{name}`.{path.table}" if is_information_schema(path) else f"`{name}.{path.table}`"
        run = await self._dry_run(spec, f"SELECT * FROM {table}", [], "")  # noqa: S608, a resolved path
        if run is None or run.error is not None or run.schema is None:
            return None
        return TableSchema(run.schema, kind="SYSTEM" if is_information_schema(path) else "WILDCARD")

    async def _list_shards(self, spec: ConnectionSpec, found: _Found, path: TablePath) -> None:
        names = await self._asked(lambda: self._reader.tables(spec, path.project, path.dataset))
        shards = tuple(name for name in names or () if name.startswith(path.table[:-1]))
        if names is not None and len(shards) <= MAX_SHARDS:
            found.shards[path] = shards


def _destination(statement: Statement, defaults: Defaults) -> Needed:
    """Where the job writes to, as something to be described."""
    found = Needed()
    if statement.destination is not None:
        with contextlib.suppress(NameProblem):  # the analysis says so
            found.tables.add(destination_path(statement.destination, defaults.project))
    return found


def _add(beneath: Needed, text: str, defaults: Defaults) -> None:
    if text:
        more = needed(text, defaults)
        beneath.tables |= more.tables
        beneath.routines |= more.routines


def _described_table(path: TablePath, schema: TableSchema) -> TableDescription:
    return TableDescription(
        schema=path.dataset,
        name=path.table,
        kind="view" if "VIEW" in schema.kind else "table",
        columns=tuple(_columns(schema.fields)),
    )


def _columns(fields: Iterable[FieldSchema], above: str = "") -> Iterator[tuple[str, str]]:
    """Every column and nested field as (dotted path, type), outer ones first."""
    for field_ in fields:
        path = f"{above}{field_.name}"
        yield path, f"ARRAY<{field_.type}>" if field_.repeated else field_.type
        yield from _columns(field_.fields, f"{path}.")


def _defaults(session: SessionContext) -> Defaults:
    project, _, dataset = session.search_path.rpartition(".")
    home = session.connection.settings.get("project", "") or session.connection.database
    return Defaults(project=home, dataset=dataset, dataset_project=project)


def _parameters(statement: Statement) -> list[dict[str, Any]]:
    """With their values where they are known: without them a dry run may find nothing left to read."""
    text = statement.parameter_values or statement.declared_parameters
    found = json.loads(text) if text else []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _rejection(error: DryRunError) -> UpstreamRejected:
    sqlstate = _SQLSTATES.get(error.reason, "42601")
    return UpstreamRejected(sqlstate=sqlstate, message=error.message, position=error.position)


async def _in_time(text: str, work: Callable[[], T]) -> T:
    """Long texts take long; they must not hold up every other session."""
    return work() if len(text) <= SHORT_TEXT else await asyncio.to_thread(work)
