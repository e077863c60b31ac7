"""tabledata.insertAll, governed as the INSERT it means: rows are its parameters, bound by an approval and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from analysis.statement import Destination
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.bigquery_jobs import must_be_on
from gateway.listeners.bigquery_tabledata import one_page
from gateway.listeners.bigquery_transport import denied
from gateway.listeners.data_api import Caller
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.parameters import canonical
from gateway.protocols.bigquery.work import column_names, refuse_unknown_fields, rows_as_statement, table_of
from gateway.session import entries
from gateway.session.context import StatementRequest
from gateway.session.permit import ExecutionPermit
from gateway.session.pipeline import run_statement
from gateway.session.services import Services
from gateway.session.transport import Denial, PendingReview, Resumption
from gateway.upstreams.bigquery_api import BigQueryApi
from gateway.upstreams.bigquery_execution import BigQueryExecution
from gateway.upstreams.bigquery_work import StreamedRows

MAX_ROWS = 50_000  # "Maximum rows per request", streaming inserts
_FIELDS = frozenset({"kind", "rows", "skipInvalidRows", "ignoreUnknownValues"})
_ROW = frozenset({"json", "insertId"})


class RowWrites:
    def __init__(self, *, services: Services, api: BigQueryApi) -> None:
        self._services = services
        self._api = api

    async def insert(
        self,
        caller: Caller,
        spec: ConnectionSpec,
        table: tuple[str, str],
        statement: StatementRequest,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """A `TableDataInsertAllResponse`. Raises BigQueryError."""
        session = caller.session(spec, settings=canonical(options).decode() if options else "")
        transport = _Transport(StreamedRows(self._api, spec, table, options))
        self._services.record.append_later(entries.session_opened(session))
        try:
            await must_be_on(self._services, session)
            await run_statement(self._services, session, statement, transport)
        finally:
            self._services.session_ended(session, "finished")
        return transport.result()


class _Transport:
    """Fulfils `gateway.session.transport.Transport`: written now or not."""

    def __init__(self, source: StreamedRows) -> None:
        self._source = source
        self._refusal: BigQueryError | None = BigQueryError("accessDenied", "the rows were not written")
        self._gone = asyncio.Event()

    @property
    def gone(self) -> asyncio.Event:
        return self._gone

    def may_run_modified(self, permit_text: str) -> bool:
        return False  # the rows are the client's

    async def send_denied(self, denial: Denial) -> None:
        self._refusal = denied(denial)

    async def send_pending(self, review: PendingReview) -> None:
        self._refusal = BigQueryError(
            "accessDenied",
            f"writing these rows waits for approval (rule {review.rule}): {review.url} Send them again when it is"
            " approved.",
        )

    async def send_resumed(self, resumption: Resumption) -> None:
        """Nothing to say: the rows are written."""

    async def execute(self, permit: ExecutionPermit) -> None:
        execution = BigQueryExecution(self._source, permit, recordings=None, read_again=one_page)
        try:
            await execution.run()
            self._refusal = None
        except BigQueryError as error:
            self._refusal = error

    def result(self) -> dict[str, Any]:
        if self._refusal is not None:
            raise self._refusal
        errors = {"insertErrors": self._source.errors} if self._source.errors else {}
        return {"kind": "bigquery#tableDataInsertAllResponse", **errors}


def read_insert(
    body: Mapping[str, Any], project: str, table: tuple[str, str]
) -> tuple[StatementRequest, dict[str, Any]]:
    """The statement, and how rows that do not fit are treated. Raises BigQueryError."""
    refuse_unknown_fields(body, _FIELDS, "the request")  # templateSuffix makes tables nobody asked about
    rows = read_rows(body)
    columns = column_names(dict.fromkeys(name for row in rows for name in row["json"]))
    name = table_of({"datasetId": table[0], "tableId": table[1]}, project)
    statement = StatementRequest(
        rows_as_statement(name, columns),
        parameters=(canonical(rows),),
        destination=Destination(name, "WRITE_APPEND", columns=columns),
        wait_for_review=False,
    )
    return statement, {key: True for key in ("skipInvalidRows", "ignoreUnknownValues") if body.get(key) is True}


def read_rows(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Raises BigQueryError."""
    rows = body.get("rows")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_ROWS:
        raise BigQueryError("invalid", f"a request has 1 to {MAX_ROWS} rows")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("json"), dict) or set(row) - _ROW:
            raise BigQueryError("invalid", "a row is malformed, expected json and insertId")
    if not any(row["json"] for row in rows):
        raise BigQueryError("invalid", "the rows are empty")
    return rows
