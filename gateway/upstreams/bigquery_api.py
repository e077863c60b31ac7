"""BigQuery's REST API as the gateway calls it: authorised, bounded in size and time, retried where that is safe.

Nothing is retried that could run a statement twice: a query is inserted under a job id of ours, so repeating the
insert finds the job instead of starting another. Errors keep their reason and lose their values.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from audit.foreign_answers import PLAIN, AnswerRefused, read_plain_async
from gateway.domain.addresses import BIGQUERY_SERVICE, is_loopback
from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.upstreams.google_credentials import METADATA_URL, GoogleCredentials, UpstreamCredential
from gateway.upstreams.registry import UpstreamFailed
from masking.bigquery import without_values

logger = logging.getLogger(__name__)

API_PATH = "/bigquery/v2"
# The service's pages are 10 MB "serialized"; as JSON with short rows they get several times that.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Longer than the longest wait asked for in one call (POLL_MS below).
TIMEOUT = httpx.Timeout(connect=10.0, read=60.0, write=30.0, pool=30.0)
# Requests at once to the service of one connection. The bound is each connection's own, never the process's: a service
# that answers slowly, or not at all, keeps no other connection waiting.
MAX_AT_ONCE = 100
PLACE_WITHIN_S = 30.0
MAX_IDLE = 100
# A service that goes on sending a little now and then would keep a statement and a connection of the pool for ever.
WHOLE_WITHIN_S = 600.0
ATTEMPTS = 4
FIRST_PAUSE_S = 0.25
UNAUTHORIZED = 401
_AGAIN = frozenset({429, 500, 502, 503, 504})


def new_client() -> httpx.AsyncClient:
    """No proxy and no certificate store from the environment, no redirects: it goes where the connection says.

    What comes back is read as it is, and never unpacked.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=MAX_IDLE)
    return httpx.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False, follow_redirects=False, headers=PLAIN)


class BigQueryApi:
    """One per process, for every BigQuery connection."""

    def __init__(
        self,
        upstream_credential: UpstreamCredential,
        client: httpx.AsyncClient | None = None,
        *,
        metadata_url: str = METADATA_URL,
    ) -> None:
        self._client = client or new_client()
        self._credentials = GoogleCredentials(upstream_credential, self._client, metadata_url=metadata_url)
        self._places: dict[str, asyncio.Semaphore] = {}  # by connection

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, spec: ConnectionSpec, path: str, *, statement: str = "", **query: Any) -> dict[str, Any]:
        """`path` segments are quoted by `path_of`. Raises BigQueryError and UpstreamFailed.

        An error's message keeps the names that `statement`, the client's own text, holds.
        """
        return await self._call(spec, "GET", path, query=query, statement=statement)

    async def post(
        self, spec: ConnectionSpec, path: str, body: Mapping[str, Any], *, statement: str = "", **query: Any
    ) -> dict[str, Any]:
        """For requests that may be repeated: a query under an id of ours, a dry run, a cancellation."""
        return await self._call(spec, "POST", path, query=query, statement=statement, body=body)

    async def post_once(self, spec: ConnectionSpec, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """For a request that must not be repeated, whatever became of it."""
        content = json.dumps(body, ensure_ascii=False).encode()
        try:
            status, answer, _ = await self._once(spec, "POST", endpoint_of(spec) + path, {}, content)
        except httpx.TransportError as error:
            raise _unreachable(error) from None
        if status >= 300:
            raise error_of(status, answer, "")
        return answer

    async def upload(self, spec: ConnectionSpec, path: str, body: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        """A job with its data, as a resumable upload of one piece; never repeated.

        Source: "Upload data" of the BigQuery documentation, and RFC 9110 §14.4 for the range.
        """
        base = endpoint_of(spec)
        begin = f"{base.removesuffix(API_PATH)}/upload{API_PATH}{path}"
        try:
            head = json.dumps(body, ensure_ascii=False).encode()
            status, answer, location = await self._once(spec, "POST", begin, {"uploadType": "resumable"}, head)
            if status >= 300:
                raise error_of(status, answer, "")
            if not _is_there(location, base):
                raise UpstreamFailed("the upstream sends the upload elsewhere")
            last = f"{len(content) - 1}" if content else ""
            span = f"bytes 0-{last}/{len(content)}" if content else "bytes */0"
            more = {"Content-Type": "application/octet-stream", "Content-Range": span}
            status, answer, _ = await self._once(spec, "PUT", location, {}, content, more)
        except httpx.TransportError as error:
            raise _unreachable(error) from None
        if status >= 300:
            raise error_of(status, answer, "")
        return answer

    async def _call(
        self,
        spec: ConnectionSpec,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any],
        statement: str,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        url = endpoint_of(spec) + path
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                status, answer, _ = await self._once(spec, method, url, query, content)
            except (httpx.TransportError, UpstreamFailed) as error:
                if last or isinstance(error, UpstreamFailed):
                    logger.warning("upstream unavailable: connection=%s error=%s", spec.name, type(error).__name__)
                    raise _unreachable(error) from None
            else:
                if status < 300:
                    return answer
                if last or status not in _AGAIN:
                    raise error_of(status, answer, statement)
            await asyncio.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(  # noqa: PLR0917  an HTTP request has so many parts
        self,
        spec: ConnectionSpec,
        method: str,
        url: str,
        query: Mapping[str, Any],
        content: bytes | None,
        more: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any], str]:
        """Status, body, and where an upload goes on. A refused token ran nothing: once, another is tried."""
        own = {"Content-Type": "application/json", **(more or {})}
        authorization = await self._credentials.authorization(spec)
        found = await self._send(spec, method, url, query, content, {**own, **authorization})
        if found[0] == UNAUTHORIZED and authorization:
            self._credentials.forget(spec, authorization)
            again = await self._credentials.authorization(spec)
            found = await self._send(spec, method, url, query, content, {**own, **again})
        return found

    async def _send(  # noqa: PLR0917  and so here
        self,
        spec: ConnectionSpec,
        method: str,
        url: str,
        query: Mapping[str, Any],
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[int, dict[str, Any], str]:
        params = {name: value for name, value in query.items() if value is not None} or None
        asked = self._client.stream(method, url, params=params, content=content, headers=headers)
        try:
            async with self._place(spec), asyncio.timeout(WHOLE_WITHIN_S), asked as response:
                body = await read_plain_async(response, max_bytes=MAX_ANSWER_BYTES)
        except AnswerRefused as refused:
            raise UpstreamFailed(f"the upstream cannot be read: {refused}") from None
        except TimeoutError:
            raise UpstreamFailed(f"the upstream's answer was not whole within {WHOLE_WITHIN_S:.0f} s") from None
        try:
            answer = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            if response.status_code < 300:
                raise UpstreamFailed("the upstream's answer is not a JSON object")
            answer = {}
        return response.status_code, answer, response.headers.get("location", "")

    @asynccontextmanager
    async def _place(self, spec: ConnectionSpec) -> AsyncIterator[None]:
        """One of the connection's places. Raises UpstreamFailed when none gets free."""
        places = self._places.setdefault(spec.name, asyncio.Semaphore(MAX_AT_ONCE))
        try:
            async with asyncio.timeout(PLACE_WITHIN_S):
                await places.acquire()
        except TimeoutError:
            raise UpstreamFailed(f"the upstream has not answered {MAX_AT_ONCE} other requests; try again") from None
        try:
            yield
        finally:
            places.release()


def endpoint_of(spec: ConnectionSpec) -> str:
    """Where the API is. Plain HTTP and missing credentials are for an emulator on loopback alone."""
    endpoint = (spec.settings.get("api_endpoint") or BIGQUERY_SERVICE).rstrip("/")
    parts = urlsplit(endpoint)
    on_loopback = is_loopback(parts.hostname or "")
    if parts.scheme != "https" and not (parts.scheme == "http" and on_loopback):
        raise UpstreamFailed("the API endpoint is not https://, which is for an emulator on loopback alone")
    if spec.settings.get("credentials") == "anonymous" and not on_loopback:
        raise UpstreamFailed("anonymous access is for an emulator on loopback alone")
    return f"{endpoint}{API_PATH}"


def _is_there(location: str, base: str) -> bool:
    """Whether an upload goes on at the service it began at: the credential goes with it."""
    theirs, ours = urlsplit(location), urlsplit(base)
    return (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)


def path_of(*segments: str) -> str:
    """`/projects/p/datasets/d` from its segments, each quoted whole. Raises UpstreamFailed for what is no name.

    Dot segments are resolved on the way (RFC 3986 §5.2.4), so they would ask for something else.
    """
    if any(segment in ("", ".", "..") for segment in segments):
        raise UpstreamFailed("a name that names nothing")
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


def error_of(status: int, answer: Mapping[str, Any], statement: str) -> BigQueryError:
    """The service's error with its reason, and its message without values."""
    error = answer.get("error")
    error = error if isinstance(error, dict) else {}
    listed = error.get("errors")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    if status == UNAUTHORIZED:
        return BigQueryError("accessDenied", "the service refused the gateway's own credential")
    return error_from(first or error, statement, status=status)


def error_from(proto: Mapping[str, Any], statement: str, *, status: int = 0) -> BigQueryError:
    """An ErrorProto of the service as ours."""
    reason = str(proto.get("reason") or "invalid")
    message = without_values(str(proto.get("message") or ""), statement)
    return BigQueryError(reason if reason.isalpha() else "invalid", message, status)


def _unreachable(error: Exception) -> UpstreamFailed:
    return error if isinstance(error, UpstreamFailed) else UpstreamFailed("the upstream cannot be reached")
