"""Permitted writes that are no queries: load, copy and extract jobs, and rows streamed into a table.

Both fulfil `gateway.upstreams.bigquery_sources.RowSource`; neither has a result. What is sent was bound by the
approval: a job's configuration is `session.settings`, the digest of an upload stands in the statement's text, rows are
its parameters.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.resources import JobStatistics
from gateway.protocols.bigquery.work import Work
from gateway.session.context import SessionContext, StatementRequest
from gateway.upstreams.bigquery import project_of
from gateway.upstreams.bigquery_api import BigQueryApi, error_from, path_of
from gateway.upstreams.bigquery_sources import Described, JobOptions, RawPage, count
from gateway.upstreams.registry import UpstreamFailed

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
# What the service counts of each kind (`JobStatistics3`, `JobStatistics4`, `CopyJobStatistics`).
_COUNTS: Mapping[str, tuple[str, ...]] = {
    "load": ("inputFiles", "inputFileBytes", "outputRows", "outputBytes", "badRecords"),
    "copy": ("copiedRows", "copiedLogicalBytes"),
    "extract": ("inputBytes",),
}
_ROWS = {"load": "outputRows", "copy": "copiedRows"}


class NativeJob:
    """jobs.insert of the configuration, or an upload of it, under an id made of the statement's."""

    def __init__(self, api: BigQueryApi, spec: ConnectionSpec, work: Work, options: JobOptions) -> None:
        self._api = api
        self._spec = spec
        self._work = work
        self._options = options
        self._location = spec.settings.get("location") or options.location
        self._job_id = ""
        self._cancelled = False

    async def start(self, request: StatementRequest, session: SessionContext) -> Described:
        if session.settings != self._work.settings or request.text != self._work.text:
            raise BigQueryError("accessDenied", "the job is not the one that was permitted")
        self._job_id = f"hoopweb_{request.statement_id}"
        await self._insert(request, session)
        job = await self._wait()
        result = (job.get("status") or {}).get("errorResult")
        if result:
            raise error_from(result, request.text)
        return Described(None, 0, _statistics(self._work.kind, job))

    async def fetch(self, *, offset: int, max_results: int | None, int64_timestamps: bool) -> RawPage:
        return RawPage([], None)

    async def cancel(self) -> None:
        """Best effort: what the service answers is not shown after this."""
        self._cancelled = True
        if self._job_id:
            with contextlib.suppress(BigQueryError, UpstreamFailed):
                await self._api.post(self._spec, self._path("cancel"), {}, location=self._location or None)

    async def _insert(self, request: StatementRequest, session: SessionContext) -> None:
        reference = {"projectId": project_of(self._spec), "jobId": self._job_id}
        if self._location:
            reference["location"] = self._location
        ours = {"hoopweb_statement": request.statement_id, "hoopweb_session": session.session_id}
        configuration: dict[str, Any] = {
            self._work.kind: dict(self._work.configuration),
            "labels": {**dict(self._options.labels), **ours},
        }
        if self._options.job_timeout_ms is not None:
            configuration["jobTimeoutMs"] = str(self._options.job_timeout_ms)
        body = {"jobReference": reference, "configuration": configuration}
        path = path_of("projects", project_of(self._spec), "jobs")
        try:
            if self._work.content is not None:
                job = await self._api.upload(self._spec, path, body, self._work.content)
            else:
                job = await self._api.post(self._spec, path, body, statement=request.text)
        except BigQueryError as error:
            if error.status != 409:
                raise
        else:
            self._location = (job.get("jobReference") or {}).get("location") or self._location

    async def _wait(self) -> dict[str, Any]:
        pause = FIRST_PAUSE_S
        while True:
            job = await self._api.get(self._spec, self._path(), location=self._location or None)
            if self._cancelled:
                raise BigQueryError("stopped", "the job was cancelled")
            if (job.get("status") or {}).get("state") == "DONE":
                return job
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _path(self, *verb: str) -> str:
        return path_of("projects", project_of(self._spec), "jobs", self._job_id, *verb)


class StreamedRows:
    """tabledata.insertAll, once: a second attempt could write the rows twice."""

    def __init__(self, api: BigQueryApi, spec: ConnectionSpec, table: tuple[str, str], body: Mapping[str, Any]) -> None:
        self._api = api
        self._spec = spec
        self._path = path_of("projects", project_of(spec), "datasets", table[0], "tables", table[1], "insertAll")
        self._body = body
        self.errors: list[dict[str, Any]] = []  # of rows, without what they quote

    async def start(self, request: StatementRequest, session: SessionContext) -> Described:
        rows = json.loads(request.parameters[0] or b"[]")
        answer = await self._api.post_once(self._spec, self._path, {**self._body, "rows": rows})
        refused = answer.get("insertErrors") or []
        self.errors = [_row_error(item) for item in refused if isinstance(item, dict)]
        taken = len(rows) - len({item["index"] for item in self.errors})
        return Described(None, 0, JobStatistics(statement_type="INSERT", affected_rows=taken))

    async def fetch(self, *, offset: int, max_results: int | None, int64_timestamps: bool) -> RawPage:
        return RawPage([], None)

    async def cancel(self) -> None:
        """The call is one request; there is nothing to stop."""


def _row_error(item: Mapping[str, Any]) -> dict[str, Any]:
    reasons = [str(each.get("reason", "invalid")) for each in item.get("errors") or [] if isinstance(each, dict)]
    told = [
        {"reason": reason if reason.isalpha() else "invalid", "message": "the row was refused"} for reason in reasons
    ]
    return {"index": count(item.get("index")), "errors": told}


def _statistics(kind: str, job: Mapping[str, Any]) -> JobStatistics:
    counted = (job.get("statistics") or {}).get(kind) or {}
    work = {name: str(count(counted[name])) for name in _COUNTS[kind] if name in counted}
    rows = _ROWS.get(kind, "")
    return JobStatistics(
        statement_type=kind.upper(), work=work, affected_rows=count(counted[rows]) if rows in counted else None
    )
