"""Telling others, after commit: held sessions and open pages through the channel layer, reviewers through Celery.

Nothing here can undo or block a decision: the row is committed, whoever waits also asks the database now and then. A
Redis that is there and answers nobody (frozen, or cut off) costs whoever tells it `TELL_WITHIN_S` a message; the broker
has its own bound in the settings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from celery import current_app
from channels.layers import get_channel_layer
from django.db import transaction

logger = logging.getLogger(__name__)

REVIEWS_GROUP = "reviews"
GATEWAYS_GROUP = "gateways"
TELL_WITHIN_S = 2.0
NOTIFY_TASK = "approvals.notify_reviewers"
EMERGENCY_TASK = "approvals.notify_emergency"
OUTCOME_TASK = "approvals.notify_outcome"


def review_group(review_id: UUID | str) -> str:
    """The channel-layer group of one review's page."""
    return f"review.{review_id}"


def announce_change(*, review_id: UUID, status: str) -> None:
    """Tell everyone who waits for this review, once the surrounding transaction is committed."""
    _after_commit(lambda: _send(review_id, status))


def announce_review(*, review_id: UUID) -> None:
    """Have the reviewers notified, once the surrounding transaction is committed."""
    _after_commit(lambda: current_app.send_task(NOTIFY_TASK, args=[str(review_id)], retry=False))


def announce_outcome(*, review_id: UUID) -> None:
    """Have the channels told how the review ended, once the surrounding transaction is committed."""
    _after_commit(lambda: current_app.send_task(OUTCOME_TASK, args=[str(review_id)], retry=False))


def announce_emergency(*, access_id: UUID, event: str) -> None:
    """Have everybody told of an emergency access, once the surrounding transaction is committed.

    Nothing asks for these again later: while the broker is away whoever breaks the glass tells them itself.
    """
    args = [str(access_id), event]

    def tell() -> None:
        try:
            current_app.send_task(EMERGENCY_TASK, args=args, retry=False)
        except Exception as error:
            logger.warning("emergency told without the broker: error=%s", type(error).__name__)
            current_app.loader.import_default_modules()  # where no worker runs, tasks are not known yet
            current_app.tasks[EMERGENCY_TASK].apply(args=args)

    _after_commit(tell)


def announce_kill(*, session_id: str) -> None:
    """Have the data plane that holds the session end it, once the surrounding transaction is committed."""
    message = {"type": "session.kill", "session_id": session_id}
    _after_commit(lambda: tell_group(GATEWAYS_GROUP, message))


async def told_to_group(group: str, message: dict[str, Any]) -> None:
    """Send a message through the channel layer. Raises TimeoutError when that takes longer than `TELL_WITHIN_S`."""
    async with asyncio.timeout(TELL_WITHIN_S):
        await get_channel_layer().group_send(group, message)


def tell_group(group: str, message: dict[str, Any]) -> None:
    """`told_to_group`, for code that is not asynchronous."""
    async_to_sync(told_to_group)(group, message)


def _send(review_id: UUID, status: str) -> None:
    message = {"type": "review.changed", "review_id": str(review_id), "status": status}
    tell_group(review_group(review_id), message)
    tell_group(REVIEWS_GROUP, message)


def _after_commit(call: Callable[[], object]) -> None:
    def told() -> None:
        try:
            call()
        except Exception as error:  # committed already: the listeners' own polling will find it
            logger.warning("review change not announced: error=%s", type(error).__name__)

    transaction.on_commit(told)
