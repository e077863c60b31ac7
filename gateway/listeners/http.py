"""The data plane's HTTP listener (`HOOPWEB_HTTP_PORT`): the token endpoint, the data APIs, the statement relay.

Routing is a table: an endpoint that is not on it does not exist. uvicorn serves (HTTP/1.1, keep-alive, back-pressure
both ways) behind `http11`, which refuses what two servers could read differently; this file sets the limits. Where a
certificate is configured the listener speaks TLS, and the relay moves to a port of its own (`HOOPWEB_RELAY_PORT`) that
clients need not reach.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.listeners.http11 import MAX_HEAD_BYTES, StrictHttp11
from gateway.listeners.readiness import Doorkeeper, Readiness

GRACE_S = 5
# An idle connection may stay this long: longer than the pauses between a client's polls of a held job.
KEEP_ALIVE_S = 75
# Connections and requests at once, per process; more are answered 503 rather than remembered.
MAX_CONCURRENCY = 2_000


async def alive(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def build_app(routes: Sequence[BaseRoute], readiness: Readiness | None = None) -> Starlette:
    """`routes` in order of precedence; a catch-all of the data APIs comes last."""
    readiness = readiness or Readiness()
    own = [Route("/livez", alive, methods=["GET"]), Route("/readyz", readiness.readyz, methods=["GET"])]
    return Starlette(routes=[*own, *routes], middleware=[Middleware(Doorkeeper, readiness=readiness)])


class EmbeddedServer(uvicorn.Server):
    """uvicorn inside a process that handles its own signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the runtime: uvicorn would stop at once, and raise what it caught a second time."""
        yield


def http_server(app: Starlette, tls: ssl.SSLContext | None = None) -> EmbeddedServer:
    """A server of `app` with every bound of this module, not started yet; without `tls` it speaks plaintext."""
    config = uvicorn.Config(
        app,
        http=StrictHttp11,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=MAX_CONCURRENCY,
        server_header=False,
        proxy_headers=False,  # the client's address is the socket's; a header would be its own word for it
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    return EmbeddedServer(config)


def reusable_socket(host: str, port: int) -> socket.socket:
    """A listening socket several gateway processes may share (SO_REUSEPORT)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    sock.setblocking(False)
    return sock
