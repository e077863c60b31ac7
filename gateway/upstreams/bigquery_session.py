"""BigQuery for surfaces that ask once and stream the answer: REST, WebSocket, MCP (`gateway.upstreams.registry`)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.values import plain_row
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.upstreams.bigquery_api import BigQueryApi, endpoint_of
from gateway.upstreams.bigquery_execution import BigQueryExecution
from gateway.upstreams.bigquery_sources import JobOptions, QueryJob
from gateway.upstreams.google_credentials import UpstreamCredential, account_of
from gateway.upstreams.recording import RecordingSink
from gateway.upstreams.registry import UpstreamFailed
from masking.domain.field import FieldMask, ResultColumn

PAGE_ROWS = 5_000
_TEXT, _JSON, _BOOL = 25, 114, 16
_OIDS = {"INT64": 20, "FLOAT64": 701, "BOOL": _BOOL, "JSON": _JSON}


class BigQueryOpener:
    """Fulfils `OpenUpstream` for connections of kind bigquery: there is nothing to open but the door is checked."""

    def __init__(
        self, api: BigQueryApi, upstream_credential: UpstreamCredential, recordings: RecordingSink | None
    ) -> None:
        self._api = api
        self._upstream_credential = upstream_credential
        self._recordings = recordings

    async def __call__(self, spec: ConnectionSpec) -> BigQueryUpstreamSession:
        endpoint_of(spec)
        role = account_of(await self._upstream_credential(spec), spec.settings)
        return BigQueryUpstreamSession(self._api, spec, role, self._recordings)


class BigQueryUpstreamSession:
    """One statement at a time."""

    def __init__(self, api: BigQueryApi, spec: ConnectionSpec, role: str, recordings: RecordingSink | None) -> None:
        self.role = role
        self.search_path = ""
        self.settings = ""
        self.tls = "TLS" if endpoint_of(spec).startswith("https://") else ""
        self._api = api
        self._spec = spec
        self._recordings = recordings
        self._execution: BigQueryExecution | None = None

    async def execute(self, permit: ExecutionPermit) -> BigQueryResultStream:
        source = QueryJob(self._api, self._spec, JobOptions())
        self._execution = BigQueryExecution(source, permit, recordings=self._recordings, read_again=_never)
        try:
            await self._execution.run()
        except BigQueryError as error:
            raise UpstreamFailed(error.message, sqlstate=_sqlstate(error)) from None
        return BigQueryResultStream(self._execution)

    def rules_changed(self) -> bool:
        """False when what runs is not allowed any more, or would be masked otherwise."""
        return self._execution is None or self._execution.rules_changed()

    async def cancel(self) -> None:
        if self._execution is not None:
            await self._execution.cancel()

    async def close(self) -> None:
        if self._execution is not None:
            await self._execution.close()


class BigQueryResultStream:
    """Fulfils `ResultStream`: pages of the job as batches of text values; records and lists are JSON."""

    def __init__(self, execution: BigQueryExecution) -> None:
        self._execution = execution
        fields: Sequence[FieldMask] = execution.plan.fields
        has_result = execution.fields is not None
        self.columns: Sequence[ResultColumn] = [_typed(column) for column in execution.columns] if has_result else ()
        self.fields = fields if has_result else ()
        self.command_tag = ""
        self.row_count = 0

    async def batches(self) -> AsyncIterator[list[list[str | None]]]:
        execution = self._execution
        offset: int | None = 0 if execution.fields and execution.total_rows else None
        while offset is not None:
            try:
                page = await execution.page(offset=offset, max_results=PAGE_ROWS)
            except BigQueryError as error:
                raise UpstreamFailed(error.message, sqlstate=_sqlstate(error)) from None
            self.row_count += len(page.rows)
            yield [self._text_values(row) for row in page.rows]
            offset = page.next_offset
        statistics = execution.statistics
        told = self.row_count if statistics.affected_rows is None else statistics.affected_rows
        self.command_tag = f"{statistics.statement_type} {told}".strip()

    def _text_values(self, row: Mapping[str, Any]) -> list[str | None]:
        assert self._execution.fields is not None
        values = plain_row(row, self._execution.fields)
        return [_text(value, column) for value, column in zip(values, self.columns, strict=True)]


def _typed(column: ResultColumn) -> ResultColumn:
    """With the PostgreSQL type these surfaces turn into JSON the same way."""
    oid = _JSON if column.fields or column.mode == "REPEATED" else _OIDS.get(column.type_name, _TEXT)
    return replace(column, type_oid=oid)


def _text(value: Any, column: ResultColumn) -> str | None:
    if column.type_oid == _BOOL and isinstance(value, str):
        return "t" if value == "true" else "f"
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _sqlstate(error: BigQueryError) -> str:
    """The class other surfaces know an error by (PostgreSQL, Appendix A)."""
    known = {"invalidQuery": "42601", "notFound": "42P01", "accessDenied": "42501", "stopped": "57014"}
    return known.get(error.reason, "XX000")


async def _never(permit: ExecutionPermit, outcome: Outcome) -> None:
    raise BigQueryError("accessDenied", "a result is streamed once")
