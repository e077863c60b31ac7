"""A review's page, live: every change of the review is pushed to whoever may read it.

The message says only that something changed and what the state now is; the browser fetches the page again for the rest,
so that what is shown is always rendered, and authorised, in one place.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from approvals.domain.announce import REVIEWS_GROUP, review_group
from approvals.domain.reviewers import fresh_user, may_read, readable_reviews
from approvals.models import Review

CLOSE_FORBIDDEN = 4403  # private use, RFC 6455 §7.4.2
RECHECK_S = 10.0


class WatchedConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """Closes by itself when its person signs out, is disabled, or loses the right to what it is about."""

    _watch: asyncio.Task[None] | None = None

    def watch(self) -> None:
        self._watch = asyncio.ensure_future(self._look_again())

    async def disconnect(self, code: int) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def may_stay(self) -> bool:
        """Whether the person may still hear what this socket says."""
        return bool(await self._is_signed_in())

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_S)
            if not await self.may_stay():
                await self.close(CLOSE_FORBIDDEN)
                return

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def _is_signed_in(self) -> bool:
        """An active account, and a session that was not ended meanwhile (where it came with one)."""
        user, session = self.scope.get("user"), self.scope.get("session")
        if user is None or not user.is_authenticated or fresh_user(user) is None:
            return False
        key = getattr(session, "session_key", None)
        return key is None or bool(session.exists(key))


class ReviewConsumer(WatchedConsumer):
    """`ws/v1/reviews/<id>/`: sends {"type": "review", "id", "status", "round"} at once and after every change."""

    group = ""

    async def connect(self) -> None:
        state = await self._state()
        await self.accept()
        if state is None:
            await self.close(CLOSE_FORBIDDEN)
            return
        self.group = review_group(self._review_id())
        await self.channel_layer.group_add(self.group, self.channel_name)
        self.watch()
        # Once more after joining: what changed in between would otherwise be missed.
        await self._tell()

    async def disconnect(self, code: int) -> None:
        await super().disconnect(code)
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def may_stay(self) -> bool:
        return await super().may_stay() and await self._state() is not None

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Nothing is decided over this socket."""

    async def review_changed(self, event: dict[str, Any]) -> None:
        await self._tell()

    async def _tell(self) -> None:
        state = await self._state()
        if state is None:  # rights were taken away meanwhile
            await self.close(CLOSE_FORBIDDEN)
        else:
            await self.send_json(state)

    def _review_id(self) -> UUID:
        review_id: UUID = self.scope["url_route"]["kwargs"]["review_id"]
        return review_id

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def _state(self) -> dict[str, Any] | None:
        review = Review.objects.filter(pk=self._review_id()).first()
        user = self.scope.get("user")
        if review is None or user is None or not user.is_authenticated or not may_read(review, user):
            return None
        status = "expired" if review.is_overdue else review.status
        return {
            "type": "review",
            "id": str(review.pk),
            "status": status,
            "round": review.round,
            "votes": review.votes.count(),
        }


class InboxConsumer(WatchedConsumer):
    """`ws/v1/reviews/`: says {"type": "inbox"} when one of the user's reviews changed."""

    async def connect(self) -> None:
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.close(CLOSE_FORBIDDEN)
            return
        await self.channel_layer.group_add(REVIEWS_GROUP, self.channel_name)
        self.watch()

    async def disconnect(self, code: int) -> None:
        await super().disconnect(code)
        await self.channel_layer.group_discard(REVIEWS_GROUP, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Nothing is decided over this socket."""

    async def review_changed(self, event: dict[str, Any]) -> None:
        if await self._mine(event["review_id"]):
            await self.send_json({"type": "inbox"})

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def _mine(self, review_id: str) -> bool:
        return readable_reviews(self.scope["user"]).filter(pk=review_id).exists()
