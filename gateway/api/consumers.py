"""Statements and live events over WebSocket.

A statement socket speaks JSON: the client authenticates by a bearer header or a first `{"type": "auth", "token": …}`,
then sends `{"type": "statement", "id": <its own label>, "statement": …, "parameters": […]}` one at a time, and gets the
data plane's frames, each with that label. `{"type": "cancel"}` or leaving cancels what runs and withdraws what is held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import User

from approvals.domain.request import Principal
from gateway.api import dataplane
from gateway.api.authentication import account_of, bearer_token, person_principal, record_failure, verifier
from gateway.api.serializers import MAX_STATEMENT_CHARS
from gateway.domain.connections import load_identity_rules
from gateway.domain.roles import may_read_everything
from gateway.domain.threads import in_thread
from gateway.domain.version import current_version
from gateway.session.services import AuthenticationFailed

AUTH_TIMEOUT_S = 10
# Close codes of RFC 6455 §7.4.2's private range.
NOT_AUTHENTICATED = 4401
FORBIDDEN = 4403
EVENTS_GROUP = "events"
RECHECK_S = 10.0
WATCH_S = 2.0
# The data plane ends what runs for who lost their rights, and records why; hanging up first would hide the reason.
DATA_PLANE_ENDS_S = 5.0
logger = logging.getLogger(__name__)


class StatementsConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """One client, one statement at a time."""

    token: str | None = None
    running: asyncio.Task[None] | None = None
    deadline: asyncio.TimerHandle | None = None
    watching: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await self.accept()
        token = bearer_token(_header(self.scope, b"authorization"))
        if token is not None:
            await self._authenticate(token)
        else:
            loop = asyncio.get_running_loop()
            self.deadline = loop.call_later(
                AUTH_TIMEOUT_S, lambda: asyncio.ensure_future(self.close(NOT_AUTHENTICATED))
            )

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        kind = _kind_of(content)
        if self.token is None:
            await self._authenticate(content.get("token") if kind == "auth" else None)
        elif kind == "statement":
            await self._start(content)
        elif kind == "cancel":
            await self._cancel()
        else:
            await self._problem("bad-message", "expected a message of type statement or cancel")

    async def disconnect(self, code: int) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        if self.watching is not None:
            self.watching.cancel()
        await self._cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """A binary frame is no message, and is answered as such."""
        await super().receive(text_data=text_data or "null", **kwargs)

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        try:
            return await super().decode_json(text_data)
        except (ValueError, RecursionError):
            return None

    async def _authenticate(self, token: Any) -> None:
        """The data plane verifies the token again with every statement: a revoked one ends there."""
        if self.deadline is not None:
            self.deadline.cancel()
        try:
            if not isinstance(token, str):
                raise AuthenticationFailed("no token in the first message")
            await verifier.verify(token, snapshot=await in_thread(load_identity_rules))
        except AuthenticationFailed as failed:
            await in_thread(record_failure, failed, protocol="websocket", client_address=self._address())
            await self.close(NOT_AUTHENTICATED)
            return
        self.token = token
        self.watching = asyncio.create_task(self._watch())
        await self.send_json({"type": "ready"})

    async def _watch(self) -> None:
        """An idle socket ends with the rights of its token too; the rules are read again only once they changed."""
        version = -1
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                now = await in_thread(current_version)
                if now != version:
                    version = now
                    await verifier.verify(self.token or "", snapshot=await in_thread(load_identity_rules))
            except AuthenticationFailed:
                break
            except Exception as error:  # the data plane refuses each statement by itself meanwhile
                logger.warning("socket's token not asked again: error=%s", type(error).__name__)
        if self.running is not None:
            await asyncio.wait({self.running}, timeout=DATA_PLANE_ENDS_S)
        await self._cancel()
        await self.close(NOT_AUTHENTICATED)

    async def _start(self, message: dict[str, Any]) -> None:
        statement, parameters = message.get("statement"), message.get("parameters") or []
        if not isinstance(statement, str) or len(statement) > MAX_STATEMENT_CHARS or not isinstance(parameters, list):
            await self._problem("bad-message", "expected a statement and a list of parameters", message)
        elif self.running is not None and not self.running.done():
            await self._problem("busy", "one statement at a time; wait for its end or cancel it", message)
        else:
            body = {
                "connection": self.scope["url_route"]["kwargs"]["name"],
                "statement": statement,
                "parameters": parameters,
                "dry_run": bool(message.get("dry_run")),
                "protocol": "websocket",
                "detach": False,
                "client_address": self._address(),
            }
            self.running = asyncio.create_task(self._relay(body, message.get("id")))

    async def _relay(self, body: dict[str, Any], label: Any) -> None:
        assert self.token is not None
        frames = dataplane.stream_frames(token=self.token, body=body, client_address=self._address())
        try:
            async with contextlib.aclosing(frames):  # type: ignore[type-var]  # an async generator
                async for frame in frames:
                    # The statement's own id stays `statement_id`; `id` is the client's label.
                    renamed = {"statement_id" if key == "id" else key: value for key, value in frame.items()}
                    await self.send_json({**renamed, "id": label})
        except dataplane.DataPlaneRefused as refused:
            await self._problem(refused.code, refused.reason, {"id": label})
            if refused.status == 401:
                await self.close(NOT_AUTHENTICATED)
        except dataplane.DataPlaneUnavailable:
            await self._problem("gateway-unavailable", "no gateway answers; try again", {"id": label})
        except Exception as error:  # told and logged by type alone: its text may quote rows or the statement
            logger.error("relayed statement broke: error=%s", type(error).__name__)
            await self._problem("internal-error", "internal error; nothing more is known of it", {"id": label})

    async def _cancel(self) -> None:
        if self.running is not None and not self.running.done():
            self.running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.running

    async def _problem(self, code: str, reason: str, message: dict[str, Any] | None = None) -> None:
        problem = {"code": code, "reason": reason}
        await self.send_json({"type": "problem", "id": (message or {}).get("id"), "problem": problem})

    def _address(self) -> str:
        return _address(self.scope)


def _kind_of(content: Any) -> str | None:
    """The message's type; a bare `{"statement": …}` (the body REST takes) or `{"token": …}` needs none."""
    if not isinstance(content, dict):
        return None
    bare = "statement" if "statement" in content else "auth" if "token" in content else None
    kind = content.get("type", bare)
    return kind if isinstance(kind, str) else None


class EventsConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """Live events (ids and counts) for administrators and auditors, by their token or the console's session."""

    groups = [EVENTS_GROUP]
    watching: asyncio.Task[None] | None = None
    token: str | None = None

    async def connect(self) -> None:
        self.token = bearer_token(_header(self.scope, b"authorization"))
        try:
            allowed = await self._may_watch()
        except AuthenticationFailed as failed:
            if self.token is not None:
                await in_thread(record_failure, failed, protocol="websocket", client_address=_address(self.scope))
            await self.close(NOT_AUTHENTICATED)
            return
        if allowed:
            await self.accept()
            self.watching = asyncio.create_task(self._recheck())
        else:
            await self.close(FORBIDDEN)

    async def disconnect(self, code: int) -> None:
        if self.watching is not None:
            self.watching.cancel()

    async def _may_watch(self) -> bool:
        """Ask anew. A token that is sent counts alone, whoever's cookie comes along. Raises AuthenticationFailed."""
        if self.token is not None:
            principal = await verifier.verify(self.token, snapshot=await in_thread(load_identity_rules))
            return await sync_to_async(_principal_may_watch)(principal)
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            raise AuthenticationFailed("neither a token nor a session")
        return await sync_to_async(_still_may_watch)(user.pk, self.scope.get("session"))

    async def _recheck(self) -> None:
        """Rights are taken away while a socket is open: ask again, and end it within `RECHECK_S`."""
        while True:
            await asyncio.sleep(RECHECK_S)
            try:
                allowed = await self._may_watch()
            except Exception:  # fail closed: nobody can say whether they may
                allowed = False
            if not allowed:
                await self.close(FORBIDDEN)
                return

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Nothing is taken from the client."""

    async def live_event(self, message: dict[str, Any]) -> None:
        """Channel layer message {"type": "live.event", "event": {…}} of the data planes."""
        await self.send_json(message["event"])


def _principal_may_watch(principal: Principal) -> bool:
    return may_read_everything(account_of(principal), principal)


def _still_may_watch(user_id: int, session: Any) -> bool:
    """An active account, whose session was not ended meanwhile (where it came with one)."""
    user = User.objects.filter(pk=user_id, is_active=True).first()
    key = getattr(session, "session_key", None)
    signed_in = key is None or bool(session.exists(key))
    return user is not None and signed_in and may_read_everything(user, person_principal(user))


def _address(scope: dict[str, Any]) -> str:
    return str((scope.get("client") or [""])[0])


def _header(scope: dict[str, Any], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope.get("headers", []) if key == name), "")
