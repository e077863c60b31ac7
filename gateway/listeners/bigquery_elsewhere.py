"""Jobs and uploads of other gateway processes: who holds one, and requests sent on to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from gateway.listeners.bigquery_calls import Call
from gateway.listeners.bigquery_job import Job, key_of
from gateway.listeners.bigquery_jobs import BigQueryJobs
from gateway.listeners.bigquery_uploads import Uploads
from gateway.listeners.handover import as_message, as_response, is_handed
from gateway.listeners.http_bodies import body_of
from gateway.listeners.peers import Message, Peers
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import QueryRequest
from gateway.upstreams.bigquery import project_of

LIST_WITHIN_S = 5.0
OK = 200


class Elsewhere:
    """`peers` is None where there is one process only: then nothing is elsewhere."""

    def __init__(self, *, jobs: BigQueryJobs, uploads: Uploads, peers: Peers | None) -> None:
        self._jobs = jobs
        self._uploads = uploads
        self._peers = peers

    def _others(self, call: Call) -> Peers | None:
        """A request that was sent on goes no further."""
        return None if self._peers is None or is_handed(call.request) else self._peers

    async def holder_of(self, call: Call) -> str:
        """The process that holds the job or the upload a request is about; empty where it is this one, or none."""
        peers, job = self._others(call), call.parameters.get("job", "")
        upload = call.query.get("upload_id", "")
        if peers is None or not (job or upload):
            return ""
        if job:
            known = self._jobs.holds(call.caller, call.spec, job)
            return "" if known else await peers.holder(_job_name(call, job))
        return "" if self._uploads.holds(upload) else await peers.holder(_upload_name(upload))

    async def hand_over(self, call: Call, holder: str) -> Response:
        assert self._peers is not None
        body = await body_of(call.request)
        return as_response(await self._peers.ask(holder, as_message(call.request, body)))

    async def start(self, call: Call, request: QueryRequest) -> Job:
        """Begin a job no process has under this id. Raises BigQueryError."""
        peers = self._peers
        if peers is not None and request.job_id and await peers.claim(_job_name(call, request.job_id)):
            raise BigQueryError("duplicate", f"Already Exists: Job {project_of(call.spec)}:{request.job_id}")
        job = self._jobs.start(call.caller, call.spec, request)
        if peers is not None:
            name = _job_name(call, job.job_id)
            if not request.job_id:
                await peers.claim(name)
            job.when_done(lambda: peers.over(name))
        return job

    async def claim_upload(self, call: Call, upload_id: str) -> None:
        peers = self._others(call)
        if peers is not None:
            await peers.claim(_upload_name(upload_id))

    async def holder_of_repeated(self, call: Call, request: QueryRequest) -> str:
        """The process an earlier call with this requestId reached."""
        peers = self._others(call)
        if peers is None or not request.request_id:
            return ""
        return await peers.claim(f"request {key_of(call.caller.principal, call.spec)} {request.request_id}")

    async def listed(self, call: Call, limit: int) -> list[dict[str, Any]]:
        """The caller's jobs at other processes, the newest of each; one that does not answer in time lists none."""
        peers = self._others(call)
        if peers is None:
            return []
        question = as_message(call.request, b"")
        head = {**question.head, "query": _without_paging(call.query, limit)}
        asked = [peers.ask(other, Message(head), within_s=LIST_WITHIN_S) for other in await peers.others()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        bodies = [json.loads(each.body) for each in answers if isinstance(each, Message) and each.head["status"] == OK]
        return [job for body in bodies for job in body.get("jobs", [])]


def _job_name(call: Call, job_id: str) -> str:
    return f"job {key_of(call.caller.principal, call.spec)} {job_id}"


def _upload_name(upload_id: str) -> str:
    return f"upload {upload_id}"


def _without_paging(query: Mapping[str, str], limit: int) -> str:
    kept = [(name, value) for name, value in query.items() if name not in ("pageToken", "maxResults")]
    return urlencode([*kept, ("maxResults", str(limit))])
