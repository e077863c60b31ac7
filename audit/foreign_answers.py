"""HTTP answers of servers that are not ours: taken as they come over the wire, bounded, and never unpacked.

httpx unpacks whatever an answer says it is packed in, each piece off the wire whole: 64 KiB of zstd are two gigabytes,
before anybody could count them. Clients ask for nothing packed (`PLAIN`), and what comes packed all the same is refused
before a byte of it is read.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx

PLAIN: Final = {"Accept-Encoding": "identity"}


class AnswerRefused(httpx.HTTPError):
    """The answer is packed, too large or too slow; the sentence says which, and quotes nothing of it."""


@contextlib.contextmanager
def hung_up_after(within_s: float) -> Iterator[dict[str, Any]]:
    """Extensions of a request whose connection ends after `within_s`, however the other side goes on.

    httpx bounds the time between two bytes: a head that comes byte by byte would keep whoever reads it for days.
    """
    connections: list[socket.socket] = []
    until = time.monotonic() + within_s

    def connected(event: str, info: dict[str, Any]) -> None:
        if event in _CONNECTED:
            connections.append(info["return_value"].get_extra_info("socket"))
            if time.monotonic() >= until:
                hang_up()

    def hang_up() -> None:
        for connection in list(connections):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS's own would wait for a peer

    timer = threading.Timer(within_s, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield {"trace": connected}
    finally:
        timer.cancel()


# Events of httpcore (https://www.encode.io/httpcore/extensions/#trace); TLS takes the plain socket's place.
_CONNECTED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})


def read_plain(response: httpx.Response, *, max_bytes: int, within_s: float) -> bytes:
    """The body of a streamed answer. Raises AnswerRefused; within `within_s`, also from a server that trickles."""
    _must_be_plain(response)
    body, until = bytearray(), time.monotonic() + within_s
    for chunk in response.iter_bytes():
        body += chunk
        _must_be_bounded(len(body), max_bytes)
        if time.monotonic() > until:
            raise AnswerRefused(f"the answer was not whole within {within_s:.0f} s")
    return bytes(body)


async def read_plain_async(response: httpx.Response, *, max_bytes: int) -> bytes:
    """The same on the event loop, where whoever waits sets the time."""
    _must_be_plain(response)
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        _must_be_bounded(len(body), max_bytes)
    return bytes(body)


def _must_be_plain(response: httpx.Response) -> None:
    if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise AnswerRefused("the answer is packed, expected it plain")


def _must_be_bounded(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise AnswerRefused(f"the answer is longer than {max_bytes} bytes")
