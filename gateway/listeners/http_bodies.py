"""Request bodies: bounded in size and time each, and in size all together."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request

from gateway.protocols.bigquery.errors import BigQueryError

MAX_BODY_BYTES = 12 * 1024 * 1024  # a query of a million characters and the parameters BigQuery takes, 10 MB
MAX_UPLOAD_BYTES = 64 * 1024 * 1024
BODY_WITHIN_S = 30.0
# Of all bodies a process is reading; a body counts until its request is answered.
MAX_READING_BYTES = 512 * 1024 * 1024


class Room:
    """Bytes of bodies a process holds at the moment."""

    def __init__(self, limit: int = MAX_READING_BYTES) -> None:
        self._limit = limit
        self._taken = 0

    def take(self, size: int) -> None:
        """Raises BigQueryError when there is no more."""
        if self._taken + size > self._limit:
            raise BigQueryError("backendError", "the gateway is reading too much at once; try again")
        self._taken += size

    def give_back(self, size: int) -> None:
        self._taken -= size


_ROOM = Room()


async def read_body(request: Request, limit: int, room: Room = _ROOM) -> bytes:
    """The whole body. It stays with the request, which may have to go on to another process; `let_go` ends that."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise BigQueryError("tooLarge", f"the body is larger than {limit} bytes")
                room.take(len(chunk))
                request.state.room = getattr(request.state, "room", 0) + len(chunk)
                chunks.append(chunk)
    except TimeoutError:
        raise BigQueryError("invalid", f"the body did not arrive within {BODY_WITHIN_S:.0f} s") from None
    request.state.body = b"".join(chunks)
    return bytes(request.state.body)


def let_go(request: Request, room: Room = _ROOM) -> None:
    """The request is answered: its body no longer counts."""
    room.give_back(getattr(request.state, "room", 0))
    request.state.room = 0


async def body_of(request: Request) -> bytes:
    """What was read of a request, or is to be read."""
    return bytes(getattr(request.state, "body", b"")) or await read_body(request, MAX_UPLOAD_BYTES)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object that can be read in one way only (RFC 7493: UTF-8, unique names, no lone surrogates).

    Raises BigQueryError.
    """
    return object_of(await read_body(request, MAX_BODY_BYTES))


def object_of(raw: bytes) -> dict[str, Any]:
    """The same of bytes that are here. Raises BigQueryError."""
    try:
        body = json.loads(raw.decode() or "{}", object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\u" in raw:
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise BigQueryError("invalid", "the body is not JSON, or a name in it stands twice") from None
    if not isinstance(body, dict):
        raise BigQueryError("invalid", "the body is not a JSON object")
    return body


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)
