"""What the BigQuery emulator lacks and the real service has, as a server in front of it: for the demo and the tests.

- Credentials are checked: a service account proves itself at `/token` (RFC 7523), every other call needs its token.
- A dry run names `referencedTables` and the bytes it would process (so much per table), which limits then hold.
- A job id can be used once, an upload's as well. Legacy SQL, the default of the real API, is refused.
- A query's destination table is written.
- A view says what its query is.
- A query may take its time (`delay_s`): it is RUNNING meanwhile, and can be cancelled.

Every request is kept as it came, for tests that ask what exactly the gateway sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import sqlglot
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from sqlglot import exp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_LIFE_S = 3600
BYTES_PER_TABLE = 10 * 1024 * 1024  # the least the real service bills for a table
MAX_KEPT_REQUESTS = 2_000
TIMEOUT_S = 120.0
_JSON = {"Content-Type": "application/json"}
_PASSED_ON = ("content-type", "content-range")


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A call of the gateway, without its token."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    header_names: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Waiting:
    """A job whose time has not come."""

    body: dict[str, Any]
    path: str
    ready_at: float
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def resource(self) -> dict[str, Any]:
        return {
            "kind": "bigquery#job",
            "jobReference": self.body["jobReference"],
            "configuration": self.body["configuration"],
            "status": {"state": "RUNNING"},
            "statistics": {"query": {}},
        }


@dataclass(slots=True)
class Shim:
    """`public_key` is the service account's, as PEM."""

    emulator: str
    token_uri: str
    client_email: str
    public_key: str = field(repr=False)
    requests: deque[SeenRequest] = field(default_factory=lambda: deque(maxlen=MAX_KEPT_REQUESTS))
    delay_s: float = 0.0  # of every query
    lose_answers: int = 0  # so many inserted jobs are answered 503 although they ran
    _tokens: dict[str, float] = field(default_factory=dict, repr=False)
    _job_ids: set[str] = field(default_factory=set, repr=False)
    _begun: dict[str, str] = field(default_factory=dict, repr=False)  # upload → the job it is for
    _jobs: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)  # that were uploaded
    _waiting: dict[str, _Waiting] = field(default_factory=dict, repr=False)
    _client: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False), repr=False
    )

    def app(self) -> Starlette:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(
            routes=[
                Route("/token", self.token, methods=["POST"]),
                Route("/{path:path}", self.forward, methods=methods),
            ]
        )

    async def token(self, request: Request) -> Response:
        form = dict(httpx.QueryParams((await request.body()).decode()))
        try:
            if form.get("grant_type") != JWT_BEARER:
                raise ValueError("grant type")
            claims = jwt.decode(
                form.get("assertion", ""), RSAKey.import_key(self.public_key), algorithms=["RS256"]
            ).claims
            if claims["aud"] != self.token_uri or claims["iss"] != self.client_email or claims["exp"] < time.time():
                raise ValueError("claims")
        except (JoseError, ValueError, KeyError):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        token = secrets.token_urlsafe(24)
        self._tokens[token] = time.time() + TOKEN_LIFE_S
        return JSONResponse({"access_token": token, "expires_in": TOKEN_LIFE_S, "token_type": "Bearer"})

    async def forward(self, request: Request) -> Response:
        if not self._knows(request.headers.get("authorization", "")):
            return _error(401, "authError", "Invalid Credentials")
        raw = await request.body()
        if request.url.path.startswith("/upload/"):
            return await self._upload(request, raw)
        body = json.loads(raw) if raw else {}
        names = frozenset(request.headers)
        seen = SeenRequest(request.method, request.url.path, dict(request.query_params), body, names)
        self.requests.append(seen)
        uploaded = self._jobs.get(request.url.path.rpartition("/")[2])
        if uploaded is not None:
            return JSONResponse(uploaded)
        waiting = self._waiting.get(request.url.path.removesuffix("/cancel").rpartition("/")[2])
        if waiting is not None:
            return await self._while_waiting(request, waiting)
        return await self._answer(request, body, raw)

    async def _answer(self, request: Request, body: dict[str, Any], raw: bytes) -> Response:
        if request.method == "POST" and request.url.path.endswith("/jobs"):
            return await self._job(request, body)
        if request.method == "GET" and request.url.path.split("/")[-2] == "tables":
            return await self._table(request)
        return await self._pass_on(request, raw)

    async def _table(self, request: Request) -> Response:
        """tables.get. The emulator tells the query of a view that DDL made in INFORMATION_SCHEMA alone."""
        answer = await self._send(request, b"")
        found = answer.json() if answer.status_code == 200 else {}
        if found.get("type") != "VIEW" or "view" in found:
            return _response(answer)
        reference = found["tableReference"]
        text = f"SELECT table_name, view_definition FROM {reference['datasetId']}.INFORMATION_SCHEMA.VIEWS"  # noqa: S608
        url = f"{self.emulator}/bigquery/v2/projects/{reference['projectId']}/queries"
        listed = (await self._client.post(url, json={"query": text, "useLegacySql": False})).json()
        texts = {row["f"][0]["v"]: row["f"][1]["v"] for row in listed.get("rows", ())}
        return JSONResponse(found | {"view": {"query": texts.get(reference["tableId"], ""), "useLegacySql": False}})

    async def _upload(self, request: Request, raw: bytes) -> Response:
        """A resumable upload goes on here, not at the emulator: the address it is told is ours."""
        body: dict[str, Any] = json.loads(raw) if request.method == "POST" else {"bytes": len(raw)}
        self.requests.append(SeenRequest(request.method, request.url.path, dict(request.query_params), body))
        job_id = body.get("jobReference", {}).get("jobId", "")
        if job_id in self._job_ids:
            return _error(409, "duplicate", f"Already Exists: Job {job_id}")
        answer = await self._send(request, raw)
        response = _response(answer)
        place = urlsplit(answer.headers.get("location", ""))
        if place.path:
            response.headers["Location"] = f"{str(request.base_url).rstrip('/')}{place.path}?{place.query}"
            self._begun[str(httpx.QueryParams(place.query)["upload_id"])] = job_id
        elif answer.status_code == 200:
            return self._loaded(self._begun.pop(request.query_params["upload_id"]), answer.json())
        return response

    def _loaded(self, job_id: str, job: dict[str, Any]) -> Response:
        """The emulator calls the job something else."""
        self._job_ids.add(job_id)
        self._jobs[job_id] = job | {"jobReference": job["jobReference"] | {"jobId": job_id}}
        return JSONResponse(self._jobs[job_id])

    async def _while_waiting(self, request: Request, waiting: _Waiting) -> Response:
        if request.url.path.endswith("/cancel"):
            waiting.cancelled.set()
            return JSONResponse({"kind": "bigquery#jobCancelResponse", "job": waiting.resource()})
        if "/queries/" not in request.url.path:
            return JSONResponse(waiting.resource())
        return await self._results_of(request, waiting)

    async def _results_of(self, request: Request, waiting: _Waiting) -> Response:
        patience_s = int(request.query_params.get("timeoutMs", "10000")) / 1000
        left_s = waiting.ready_at - time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting.cancelled.wait(), max(0.0, min(patience_s, left_s)))
            return _error(400, "stopped", "Job execution was cancelled: User requested cancellation")
        if patience_s < left_s:
            return JSONResponse({"jobReference": waiting.body["jobReference"], "jobComplete": False})
        if self._waiting.pop(waiting.body["jobReference"]["jobId"], None) is not None:
            raw = json.dumps(waiting.body).encode()
            await self._client.post(f"{self.emulator}{waiting.path}", content=raw, headers=_JSON)
        return await self._pass_on(request, b"")

    def _knows(self, authorization: str) -> bool:
        return self._tokens.get(authorization.removeprefix("Bearer "), 0.0) > time.time()

    async def _job(self, request: Request, body: dict[str, Any]) -> Response:
        """jobs.insert of a query: strict where the emulator is not."""
        configuration = body.get("configuration", {})
        query = configuration.get("query")
        if query is None:
            return await self._pass_on(request, json.dumps(body).encode())
        project = request.url.path.split("/")[4]
        tables = list(referenced_tables(query["query"], project, query.get("defaultDataset", {}).get("datasetId", "")))
        processed = len(tables) * BYTES_PER_TABLE
        refusal = self._refusal(query, body.get("jobReference", {}), processed, dry=bool(configuration.get("dryRun")))
        if refusal is not None:
            return refusal
        if configuration.get("dryRun"):
            answer = await self._send(request, json.dumps(body).encode())
            if answer.status_code != 200:
                return _response(answer)
            return JSONResponse(_with_facts(answer.json(), tables, processed))
        return await self._run(request, body)

    def _refusal(
        self, query: dict[str, Any], reference: dict[str, Any], processed: int, *, dry: bool
    ) -> Response | None:
        limit, job_id = query.get("maximumBytesBilled"), reference.get("jobId", "")
        if query.get("useLegacySql") is not False:
            return _error(400, "invalid", "legacy SQL")
        if limit is not None and processed > int(limit):
            return _error(400, "bytesBilledLimitExceeded", f"Query exceeded limit for bytes billed: {limit}.")
        if not dry and job_id in self._job_ids:
            return _error(409, "duplicate", f"Already Exists: Job {job_id}")
        return None

    async def _run(self, request: Request, body: dict[str, Any]) -> Response:
        job_id = body["jobReference"]["jobId"]
        self._job_ids.add(job_id)
        if self.delay_s:
            self._waiting[job_id] = _Waiting(body, request.url.path, time.monotonic() + self.delay_s)
            return JSONResponse(self._waiting[job_id].resource())
        answer = await self._send(request, json.dumps(body).encode())
        if "destinationTable" in body["configuration"]["query"]:
            await self._write(request.url.path, body["configuration"]["query"])
        if self.lose_answers:
            self.lose_answers -= 1
            return _error(503, "backendError", "try again")
        return _response(answer)

    async def _write(self, path: str, query: dict[str, Any]) -> None:
        """The result into its destination table; the emulator forgets to."""
        table = query["destinationTable"]
        name = f"{table['datasetId']}.{table['tableId']}"
        place = f"{path.removesuffix('/jobs')}/datasets/{table['datasetId']}/tables/{table['tableId']}"
        exists = (await self._client.get(f"{self.emulator}{place}")).status_code == 200
        adds = exists and query.get("writeDisposition") != "WRITE_TRUNCATE"
        verb = f"INSERT INTO {name}" if adds else f"CREATE OR REPLACE TABLE {name} AS"
        kept = {key: query[key] for key in ("queryParameters", "parameterMode", "defaultDataset") if key in query}
        plain = kept | {"query": f"{verb} {query['query']}", "useLegacySql": False}
        body = {"configuration": {"query": plain}}
        await self._client.post(f"{self.emulator}{path}", content=json.dumps(body).encode(), headers=_JSON)

    async def _pass_on(self, request: Request, raw: bytes) -> Response:
        return _response(await self._send(request, raw))

    async def _send(self, request: Request, raw: bytes) -> httpx.Response:
        url = f"{self.emulator}{request.url.path}"
        return await self._client.request(
            request.method,
            url,
            params=request.query_params,
            content=raw,
            headers={name: request.headers[name] for name in _PASSED_ON if name in request.headers},
        )


def referenced_tables(text: str, project: str, dataset: str) -> Iterator[dict[str, str]]:
    """The stored tables of a text, each once, as a dry run names them."""
    found: set[tuple[str, str, str]] = set()
    try:
        statements = sqlglot.parse(text, read="bigquery")
    except sqlglot.errors.SqlglotError:
        return  # the emulator says what is wrong with it
    for statement in filter(None, statements):
        named = {cte.alias_or_name.casefold() for cte in statement.find_all(exp.CTE)}
        for table in statement.find_all(exp.Table):
            if not isinstance(table.this, exp.Identifier) or (not table.db and table.name.casefold() in named):
                continue
            place = (table.catalog or project, table.db or dataset, table.name)
            if place[1] and place not in found:
                found.add(place)
                yield dict(zip(("projectId", "datasetId", "tableId"), place, strict=True))


def _with_facts(job: dict[str, Any], tables: list[dict[str, str]], processed: int) -> dict[str, Any]:
    statistics = job.setdefault("statistics", {})
    statistics["totalBytesProcessed"] = str(processed)
    query = statistics.setdefault("query", {})
    if query.get("schema") and not query.get("statementType"):
        query["statementType"] = "SELECT"  # the emulator names no kind for UNION and its like
    return job | {
        "statistics": statistics
        | {"query": query | {"referencedTables": tables, "totalBytesProcessed": str(processed)}}
    }


def _response(answer: httpx.Response) -> Response:
    return Response(answer.content, status_code=answer.status_code, media_type=answer.headers.get("content-type"))


def _error(status: int, reason: str, message: str) -> Response:
    error = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
    return JSONResponse({"error": error}, status_code=status)
