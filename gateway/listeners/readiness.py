"""Whether this process can serve now, and how its HTTP port says so.

`/readyz` is for load balancers: 200 while new work is welcome, 503 with the names of what fails otherwise. A process
that drains answers what it began and begins nothing more, so a balancer can move new clients without losing one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.pulses import Pulses

# What only looks at work that was begun, or ends it, goes on while the process drains.
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_ENDING = "/cancel"
_RELAYED = "/relay/"  # relayed statements are counted by the registry of sessions, which knows the held ones
RETRY_AFTER_S = 1


class Readiness:
    """The checks of one process; `draining` is set once and for all when it is told to stop."""

    def __init__(self, checks: Mapping[str, Callable[[], bool]] | None = None, pulses: Pulses | None = None) -> None:
        self._checks = dict(checks or {})
        self.pulses = pulses or Pulses()
        self.draining = False
        self.answering = 0  # HTTP requests under way, without the relay's

    def failing(self) -> list[str]:
        """Names of what keeps this process from serving; a check that raises fails."""
        failing = [name for name, holds in self._checks.items() if not _holds(holds)]
        return [*failing, *self.pulses.silent(), *(["draining"] * self.draining)]

    async def readyz(self, _: Request) -> Response:
        failing = self.failing()
        if failing:
            return JSONResponse({"status": "unavailable", "failing": failing}, status_code=503)
        return JSONResponse({"status": "ok"})


class Doorkeeper:
    """ASGI middleware: counts what is being answered, and begins nothing while the process drains."""

    def __init__(self, app: ASGIApp, readiness: Readiness) -> None:
        self._app = app
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._readiness.draining and begins_work(scope["method"], scope["path"]):
            await refusal()(scope, receive, send)
        elif scope["path"].startswith(_RELAYED):
            await self._app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._readiness.answering += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._readiness.answering -= 1


def begins_work(method: str, path: str) -> bool:
    return method not in _LOOKING and not path.endswith(_ENDING)


def refusal() -> Response:
    """503 in the words of every surface: the relay's `code` and `reason`, and the error object of Google's clients."""
    reason = "this gateway is shutting down; send the request again"
    body = {
        "code": "gateway-draining",
        "reason": reason,
        "error": {"code": 503, "message": reason, "errors": [{"reason": "backendError", "message": reason}]},
    }
    return JSONResponse(body, status_code=503, headers={"Retry-After": str(RETRY_AFTER_S), "Connection": "close"})


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception:  # fail closed: what cannot be known is not so
        return False
