"""The control plane's client of the statement relay: frames of one statement, from whichever gateway answers.

Only the caller's own token and the relay key travel; the control plane never sees an upstream credential.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any

import httpx
from django.conf import settings

Frame = dict[str, Any]

# A held statement may be silent for as long as its review lives; the relay and the review set the limits.
DESCRIBE_TIMEOUT_S = 30.0  # a cold cache analyses a hundred tables
TIMEOUT = httpx.Timeout(connect=5.0, read=None, write=30.0, pool=5.0)


class DataPlaneRefused(Exception):
    """The relay answered before any frame. `status` is its HTTP status."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason = status, code, reason


class DataPlaneUnavailable(Exception):
    """No gateway answers, or it broke off in the middle. `never_sent`: no gateway has heard of the statement."""

    def __init__(self, error: str, *, never_sent: bool = False) -> None:
        super().__init__(error)
        self.never_sent = never_sent


def iter_frames(*, token: str, body: Mapping[str, Any], client_address: str = "") -> Iterator[Frame]:
    """Yield the frames of one statement. Closing the generator early cancels what is not held."""
    try:
        with _stream(token=token, body=body, client_address=client_address) as response:
            for line in response.iter_lines():
                yield json.loads(line)
    except httpx.HTTPError as error:
        raise _unavailable(error) from None


async def stream_frames(*, token: str, body: Mapping[str, Any], client_address: str = "") -> AsyncIterator[Frame]:
    """The same, without blocking the event loop."""
    try:
        async with _astream(token=token, body=body, client_address=client_address) as response:
            async for line in response.aiter_lines():
                yield json.loads(line)
    except httpx.HTTPError as error:
        raise _unavailable(error) from None


def resume(*, token: str, statement_id: str, connection: str, protocol: str = "rest") -> None:
    """Ask the data plane to hold a pending statement again whose holder ended. Failures are left to the next poll."""
    body = {"connection": connection, "protocol": protocol}
    try:
        with httpx.Client(timeout=httpx.Timeout(10.0), trust_env=False) as client:
            client.post(f"{_url()}/{statement_id}/resume", headers=_headers(token, ""), json=body)
    except httpx.HTTPError:
        return


async def describe(*, token: str = "", body: Mapping[str, Any], client_address: str = "") -> Frame:
    """What a principal may see: with its own token, or with `body["principal"]` for the control plane's own pages."""
    try:
        async with httpx.AsyncClient(timeout=DESCRIBE_TIMEOUT_S, trust_env=False) as client:
            headers = _headers(token, client_address)
            response = await client.post(_url("sight"), headers=headers, content=_encoded(body))
    except httpx.HTTPError as error:
        raise _unavailable(error) from None
    if response.status_code != httpx.codes.OK:
        raise _refused(response)
    return dict(response.json())


@contextmanager
def _stream(*, token: str, body: Mapping[str, Any], client_address: str) -> Iterator[httpx.Response]:
    with (
        httpx.Client(timeout=TIMEOUT, trust_env=False) as client,
        client.stream("POST", _url(), headers=_headers(token, client_address), content=_encoded(body)) as response,
    ):
        if response.status_code != httpx.codes.OK:
            response.read()
            raise _refused(response)
        yield response


@asynccontextmanager
async def _astream(*, token: str, body: Mapping[str, Any], client_address: str) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client,
        client.stream("POST", _url(), headers=_headers(token, client_address), content=_encoded(body)) as response,
    ):
        if response.status_code != httpx.codes.OK:
            await response.aread()
            raise _refused(response)
        yield response


def _encoded(body: Mapping[str, Any]) -> bytes:
    """The body as JSON in UTF-8. What is no text there (half a character, NaN, ten thousand brackets) is refused.

    The encoder's own error must go no further: it carries the statement, and whoever logs it writes that down.
    """
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError):
        reason = "expected text without lone surrogates, finite numbers, and parameters that are not nested too deeply"
        raise DataPlaneRefused(HTTPStatus.BAD_REQUEST, "bad-request", reason) from None


def _unavailable(error: httpx.HTTPError) -> DataPlaneUnavailable:
    never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    return DataPlaneUnavailable(type(error).__name__, never_sent=never_sent)


def _refused(response: httpx.Response) -> DataPlaneRefused:
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    return DataPlaneRefused(
        response.status_code,
        str(answer.get("code", "relay-failed")),
        str(answer.get("reason", "the data plane gave no reason")),
    )


def _url(what: str = "statements") -> str:
    return f"{settings.HOOPWEB_RELAY_URL}/relay/v1/{what}"


def _headers(token: str, client_address: str) -> dict[str, str]:
    own = {
        "Content-Type": "application/json",
        "X-Hoopweb-Relay": settings.HOOPWEB_RELAY_KEY,
        "X-Hoopweb-Client": client_address,
    }
    return {"Authorization": f"Bearer {token}", **own} if token else own
