"""Rows and files a client sends along: `insertAll`, and load jobs with an upload."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from gateway.listeners.bigquery_calls import Answer, Call, Handler, recorded
from gateway.listeners.bigquery_elsewhere import Elsewhere
from gateway.listeners.bigquery_rows import RowWrites, read_insert
from gateway.listeners.bigquery_uploads import Uploads, read_multipart, read_span
from gateway.listeners.data_api import Front
from gateway.listeners.http_bodies import MAX_UPLOAD_BYTES, read_body, read_object
from gateway.protocols.bigquery import resources
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import read_job
from gateway.upstreams.bigquery import project_of
from masking.engines.marks import carries_mask

RESUME_INCOMPLETE = 308  # what goes on with an upload is told by its Range
CLIENT_CLOSED = 499


class LoadCalls:
    def __init__(self, *, front: Front, rows: RowWrites, uploads: Uploads, elsewhere: Elsewhere) -> None:
        self._front = front
        self._writes = rows
        self._uploads = uploads
        self._elsewhere = elsewhere

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "tabledata.insertAll": self._insert_all,
            "jobs.upload": self._upload,
            "jobs.uploadPart": self._upload_part,
            "jobs.uploadCancel": self._upload_cancel,
        }

    async def _insert_all(self, call: Call) -> dict[str, Any]:
        dataset, table = call.parameters["dataset"], call.parameters["table"]
        async with recorded(self._front, call):
            statement, options = read_insert(await read_object(call.request), project_of(call.spec), (dataset, table))
        return await self._writes.insert(call.caller, call.spec, (dataset, table), statement, options)

    async def _upload(self, call: Call) -> Answer:
        """One multipart request, or the beginning of a resumable upload."""
        kind = call.query.get("uploadType", "")
        async with recorded(self._front, call):
            if kind == "multipart":
                raw = await read_body(call.request, MAX_UPLOAD_BYTES)
                return await self._load(call, *read_multipart(call.request.headers.get("content-type", ""), raw))
            if kind != "resumable":
                raise BigQueryError("invalid", "the upload type is not served, expected multipart or resumable")
            body = await read_object(call.request)
            read_job(body, project=project_of(call.spec), content=b"")  # refused now, not when everything is sent
        upload_id = self._uploads.begin(call.owner, call.request.scope["path"], body)
        await self._elsewhere.claim_upload(call, upload_id)
        url = f"{call.request.url.scheme}://{call.request.url.netloc}{call.request.scope['path']}"
        return Response(headers={"Location": f"{url}?uploadType=resumable&upload_id={upload_id}"})

    async def _upload_part(self, call: Call) -> Answer:
        upload_id = call.query.get("upload_id", "")
        upload = self._uploads.find(call.owner, call.request.scope["path"], upload_id)
        part = await read_body(call.request, MAX_UPLOAD_BYTES)
        span = read_span(call.request.headers.get("content-range", f"bytes 0-{len(part) - 1}/{len(part)}"), len(part))
        if span.start not in (None, len(upload.content)):
            raise BigQueryError("invalid", "the piece does not follow the one before")
        self._uploads.add(upload, part)
        if span.total is None or len(upload.content) < span.total:
            arrived = {"Range": f"bytes=0-{len(upload.content) - 1}"} if upload.content else {}
            return Response(status_code=RESUME_INCOMPLETE, headers=arrived)
        self._uploads.end(upload_id)
        return await self._load(call, upload.body, bytes(upload.content))

    async def _upload_cancel(self, call: Call) -> Answer:
        upload_id = call.query.get("upload_id", "")
        self._uploads.find(call.owner, call.request.scope["path"], upload_id)
        self._uploads.end(upload_id)
        return Response(status_code=CLIENT_CLOSED)

    async def _load(self, call: Call, body: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        request = read_job(body, project=project_of(call.spec), content=content)
        assert request.work is not None
        found = "unreadable" if not request.work.is_readable else ""
        if not found and await asyncio.to_thread(carries_mask, "", (content,)):
            found = "masked"
        request = replace(request, work=replace(request.work, found=found))
        return resources.job_resource((await self._elsewhere.start(call, request)).facts())
