"""tabledata.list, governed as what it is: a SELECT of the table's columns.

Analysed, decided, approved and recorded is the statement a person would have written for the same rows; run is the
service's own call, which costs nothing and keeps its order from page to page. Every page is a statement of its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.bigquery_jobs import must_be_on
from gateway.listeners.bigquery_metadata import find_table
from gateway.listeners.bigquery_transport import denied
from gateway.listeners.data_api import Caller
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.session import entries
from gateway.session.context import StatementRequest
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.pipeline import run_statement
from gateway.session.services import Services
from gateway.session.transport import Denial, PendingReview, Resumption
from gateway.upstreams.bigquery import BigQueryUpstream, project_of
from gateway.upstreams.bigquery_api import BigQueryApi
from gateway.upstreams.bigquery_execution import BigQueryExecution, Page
from gateway.upstreams.bigquery_sources import StoredTable
from gateway.upstreams.recording import RecordingSink

# What stands between backticks in the statement; decorators ($20260101, @-3600) mean other rows and are refused.
_NAME = re.compile(r"[\w -]{1,1024}")
_READABLE = frozenset({"TABLE", "SNAPSHOT", "CLONE"})


class TableReads:
    def __init__(
        self, *, services: Services, api: BigQueryApi, reader: BigQueryUpstream, recordings: RecordingSink | None
    ) -> None:
        self._services = services
        self._api = api
        self._reader = reader
        self._recordings = recordings

    async def rows(
        self,
        caller: Caller,
        spec: ConnectionSpec,
        *,
        dataset: str,
        table: str,
        selected: str,
        offset: int,
        max_results: int | None,
        int64_timestamps: bool,
    ) -> dict[str, Any]:
        """A `TableDataList`. Raises BigQueryError."""
        if not (_NAME.fullmatch(dataset) and _NAME.fullmatch(table)):
            raise BigQueryError("invalid", "the table's name is malformed")
        found = await find_table(self._reader, spec, dataset, table)
        if found.get("type", "TABLE") not in _READABLE:
            raise BigQueryError("invalid", "this is not a stored table; read it with a query")
        fields = chosen((found.get("schema") or {}).get("fields") or [], selected)
        text = statement_for(f"{project_of(spec)}.{dataset}.{table}", fields if selected else (), max_results, offset)
        source = StoredTable(self._api, spec, (dataset, table), fields, not selected)
        transport = _Transport(source, self, offset=offset, max_results=max_results, int64_timestamps=int64_timestamps)
        session = caller.session(spec)
        self._services.record.append_later(entries.session_opened(session))
        try:
            await must_be_on(self._services, session)
            statement = StatementRequest(text, wait_for_review=False)
            await run_statement(self._services, session, statement, transport)
        finally:
            await transport.close()
            self._services.session_ended(session, "finished")
        page = transport.result()
        more = {"pageToken": str(page.next_offset)} if page.next_offset is not None else {}
        return {"kind": "bigquery#tableDataList", "totalRows": str(transport.total_rows), "rows": page.rows, **more}

    def execution(self, source: StoredTable, permit: ExecutionPermit, begin: int) -> BigQueryExecution:
        return BigQueryExecution(source, permit, recordings=self._recordings, read_again=one_page, begin=begin)


class _Transport:
    """Fulfils `gateway.session.transport.Transport`: one page, now or not."""

    def __init__(
        self, source: StoredTable, reads: TableReads, *, offset: int, max_results: int | None, int64_timestamps: bool
    ) -> None:
        self._source = source
        self._reads = reads
        self._asked: dict[str, Any] = {
            "offset": offset,
            "max_results": max_results,
            "int64_timestamps": int64_timestamps,
        }
        self._execution: BigQueryExecution | None = None
        self._page: Page | None = None
        self._refusal: BigQueryError | None = None
        self._gone = asyncio.Event()
        self.total_rows = 0

    @property
    def gone(self) -> asyncio.Event:
        return self._gone

    def may_run_modified(self, permit_text: str) -> bool:
        return False  # the call names a table; another statement is another call

    async def send_denied(self, denial: Denial) -> None:
        self._refusal = denied(denial)

    async def send_pending(self, review: PendingReview) -> None:
        self._refusal = BigQueryError(
            "accessDenied",
            f"reading this table waits for approval (rule {review.rule}): {review.url} Ask again when it is approved.",
        )

    async def send_resumed(self, resumption: Resumption) -> None:
        """Nothing to say: the rows follow."""

    async def execute(self, permit: ExecutionPermit) -> None:
        self._execution = execution = self._reads.execution(self._source, permit, self._asked["offset"])
        try:
            await execution.run()
            self._page = await execution.page(**self._asked)
            self.total_rows = execution.total_rows
        except BigQueryError as error:
            self._refusal = error

    async def close(self) -> None:
        if self._execution is not None:
            await self._execution.close()

    def result(self) -> Page:
        if self._refusal is not None:
            raise self._refusal
        if self._page is None:
            raise BigQueryError("accessDenied", "the table was not read")
        return self._page


def statement_for(table: str, fields: Sequence[dict[str, Any]], max_results: int | None, offset: int) -> str:
    """The SELECT that means the same rows and columns."""
    columns = ", ".join(f"`{field['name']}`" for field in fields) or "*"
    limit = f" LIMIT {max_results}" if max_results is not None else ""
    skip = f" OFFSET {offset}" if offset and limit else ""
    return f"SELECT {columns} FROM `{table}`{limit}{skip}"  # noqa: S608  names without a backtick; analysed, not sent


def chosen(fields: Sequence[dict[str, Any]], selected: str) -> list[dict[str, Any]]:
    """The named columns in the table's order, as the service returns them. Nested paths are refused."""
    if not selected:
        return list(fields)
    names = {name.strip().casefold() for name in selected.split(",")}
    found = [field for field in fields if str(field["name"]).casefold() in names]
    if len(found) != len(names):
        raise BigQueryError("invalid", "selectedFields names what is not a column; select whole columns")
    return found


async def one_page(permit: ExecutionPermit, outcome: Outcome) -> None:
    """Nothing of these is kept to be read again."""
    raise BigQueryError("accessDenied", "a page is read once; ask for it again")
