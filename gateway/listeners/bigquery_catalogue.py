"""`datasets.*`, `tables.*` and `tabledata.list`: what exists, as the caller may see it, and its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from gateway.listeners import bigquery_metadata as metadata
from gateway.listeners.bigquery_calls import Call, Handler, must_read, recorded
from gateway.listeners.bigquery_elsewhere import Elsewhere
from gateway.listeners.bigquery_queries import wait_for
from gateway.listeners.bigquery_tabledata import TableReads
from gateway.listeners.data_api import Front
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import MAX_WAIT_S, QueryRequest
from gateway.protocols.bigquery.work import table_of
from gateway.session import entries
from gateway.upstreams.bigquery import BigQueryUpstream, project_of

NO_CONTENT = 204


class CatalogueCalls:
    def __init__(self, *, front: Front, reader: BigQueryUpstream, tables: TableReads, elsewhere: Elsewhere) -> None:
        self._front = front
        self._reader = reader
        self._tables = tables
        self._elsewhere = elsewhere

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "datasets.list": self._datasets,
            "datasets.get": self._dataset,
            "tables.list": self._list_tables,
            "tables.get": self._table,
            "tables.delete": self._drop_table,
            "tabledata.list": self._rows,
        }

    async def _look(self, call: Call, resource: str) -> None:
        """Whether the caller may read here at all; the look is on the record before it is answered."""
        must_read(self._front, call)
        await self._front.services.record.append(
            entries.described(call.caller.session(call.spec), f"{call.endpoint.name} {resource}".strip()[:512])
        )

    async def _datasets(self, call: Call) -> dict[str, Any]:
        await self._look(call, "")
        return metadata.dataset_list(await self._reader.dataset_list(call.spec, project_of(call.spec)))

    async def _dataset(self, call: Call) -> dict[str, Any]:
        dataset = call.parameters["dataset"]
        await self._look(call, dataset)
        return await metadata.dataset(self._reader, call.spec, dataset)

    async def _list_tables(self, call: Call) -> dict[str, Any]:
        dataset = call.parameters["dataset"]
        await self._look(call, dataset)
        return await metadata.table_list(self._reader, call.spec, dataset)

    async def _table(self, call: Call) -> dict[str, Any]:
        dataset, table = call.parameters["dataset"], call.parameters["table"]
        await self._look(call, f"{dataset}.{table}")
        rules = self._front.snapshot().masking_rules
        return await metadata.table(self._reader, call.spec, dataset, table, rules=rules, caller=call.caller)

    async def _drop_table(self, call: Call) -> Response:
        """DROP TABLE or DROP VIEW, decided and run as that statement."""
        must_read(self._front, call)
        dataset, table = call.parameters["dataset"], call.parameters["table"]
        async with recorded(self._front, call):
            name = table_of({"datasetId": dataset, "tableId": table}, project_of(call.spec))
        found = await metadata.find_table(self._reader, call.spec, dataset, table)
        kind = "VIEW" if found.get("type") == "VIEW" else "TABLE"
        job = await self._elsewhere.start(call, QueryRequest(f"DROP {kind} `{name}`"))
        await wait_for(job, MAX_WAIT_S)
        if job.state != "DONE":
            where = f": {job.review.url}" if job.review is not None else ""
            raise BigQueryError("accessDenied", f"job {job.job_id} waits for approval{where}")
        if job.error is not None:
            raise job.error
        return Response(status_code=NO_CONTENT)

    async def _rows(self, call: Call) -> dict[str, Any]:
        must_read(self._front, call)
        return await self._tables.rows(
            call.caller,
            call.spec,
            dataset=call.parameters["dataset"],
            table=call.parameters["table"],
            selected=call.query.get("selectedFields", ""),
            offset=call.offset,
            max_results=call.number("maxResults"),
            int64_timestamps=call.int64_timestamps,
        )
