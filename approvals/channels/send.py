"""One attempt at one message: what is posted where, and what its answer means."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from approvals.channels.outbound import NotPermitted, NotReached, post
from approvals.channels.slack import slack_body
from approvals.channels.webhook import SecretProblem, webhook_body, webhook_headers
from approvals.domain.channels import SECRET, channel_secrets, channel_url
from approvals.domain.deliveries import note_delivered, note_failed, take_attempt
from approvals.models import Channel, Delivery
from audit.domain.box import SealProblem

logger = logging.getLogger(__name__)


def attempt(delivery_id: str) -> None:
    """Make the attempt that is due, if it is. What goes wrong is kept with the message, in words without secrets."""
    delivery = take_attempt(delivery_id)
    if delivery is None:
        return
    try:
        answer = _posted(delivery)
    except NotReached as problem:
        _failed(delivery, f"not reached: {problem}")
    except (NotPermitted, SecretProblem) as problem:
        _failed(delivery, str(problem), for_good=True)
    except SealProblem:
        _failed(delivery, "the channel's secrets cannot be opened", for_good=True)
    else:
        _answered(delivery, answer)


def _posted(delivery: Delivery) -> int:
    channel = delivery.channel
    url = channel_url(channel)
    if not url:
        raise NotPermitted("the channel has no address")
    if channel.kind == Channel.Kind.SLACK:
        return post(url, body=slack_body(delivery), headers={"Content-Type": "application/json"})
    body = webhook_body(delivery)
    secret = channel_secrets(channel).get(SECRET, "")
    headers = webhook_headers(message_id=str(delivery.pk), body=body, secret=secret, at=int(time.time()))
    return post(url, body=body, headers=headers)


def _answered(delivery: Delivery, answer: int) -> None:
    if HTTPStatus.OK <= answer < HTTPStatus.MULTIPLE_CHOICES:
        note_delivered(delivery=delivery, answer=answer)
        return
    moved = HTTPStatus.MULTIPLE_CHOICES <= answer < HTTPStatus.BAD_REQUEST
    problem = f"answered {answer}" + (", redirects are not followed" if moved else "")
    # 410: Standard Webhooks' way of saying "never again".
    _failed(delivery, problem, answer=answer, for_good=answer == HTTPStatus.GONE)


def _failed(delivery: Delivery, problem: str, *, answer: int | None = None, for_good: bool = False) -> None:
    note_failed(delivery=delivery, problem=problem, answer=answer, for_good=for_good)
    logger.warning("channel message failed: delivery=%s attempt=%s", delivery.pk, delivery.attempts)
