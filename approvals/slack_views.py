"""Where Slack posts what people press in its messages. Only mapped people decide here; all others are sent to the page.

No session and no CSRF token: the signature over the raw body is the authentication, and it is checked before anything
is parsed. An answer goes back to the channel's own Slack host or nowhere.
"""

from __future__ import annotations

import json
import logging
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from approvals.channels.outbound import NotPermitted, NotReached, post
from approvals.channels.slack import APPROVE, DECIDE_BELOW_RISK, DENY, is_from_slack, mapped_user, typed_reason
from approvals.domain.channels import SECRET, channel_secrets, channel_url
from approvals.domain.refusal import Refusal
from approvals.domain.review import decide_review
from approvals.domain.slack_requests import take_slack_request
from approvals.models import Channel, Review
from audit.domain.box import SealProblem

logger = logging.getLogger(__name__)

MAX_BODY = 100_000
_DECISIONS = {APPROVE: "approve", DENY: "deny"}
NOT_MAPPED = "Your Slack account is not known to hoopweb as a reviewer's. Please decide on the page: {url}"


@csrf_exempt
@require_POST
def interaction(request: HttpRequest, name: str) -> HttpResponse:
    """An interactive request of Slack's. 401 for everything that is not provably Slack's, or was taken before."""
    body = _raw(request)
    channel = Channel.objects.filter(name=name, kind=Channel.Kind.SLACK, enabled=True).first()
    signature = request.headers.get("X-Slack-Signature", "")
    if body is None or channel is None or not _is_authentic(channel, request, signature, body):
        return HttpResponse(status=HTTPStatus.UNAUTHORIZED)
    if not take_slack_request(signature):
        return HttpResponse(status=HTTPStatus.UNAUTHORIZED)
    pressed = _pressed(body)
    if pressed is not None:
        _answer(channel, pressed, _decided(channel, pressed))
    return HttpResponse(status=HTTPStatus.OK)


def _raw(request: HttpRequest) -> bytes | None:
    try:
        return request.body if len(request.body) <= MAX_BODY else None
    except RequestDataTooBig:
        return None


def _is_authentic(channel: Channel, request: HttpRequest, signature: str, body: bytes) -> bool:
    try:
        secret = channel_secrets(channel).get(SECRET, "")
    except SealProblem:
        return False  # fail closed: without the secret nothing can be believed
    timestamp = request.headers.get("X-Slack-Request-Timestamp", "")
    return is_from_slack(secret=secret, timestamp=timestamp, signature=signature, body=body, now=time.time())


def _pressed(body: bytes) -> dict[str, Any] | None:
    """The interaction when one of our deciding buttons was pressed."""
    try:
        interaction: Any = json.loads(parse_qs(body.decode())["payload"][0])
        actions = interaction["actions"]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    ours = [action for action in actions if isinstance(action, dict) and action.get("action_id") in _DECISIONS]
    return {**interaction, "action": ours[0]} if ours and isinstance(interaction, dict) else None


def _decided(channel: Channel, pressed: dict[str, Any]) -> str:
    """Decide as the mapped person; the sentence says what became of it."""
    found = _review_and_round(str(pressed["action"].get("value", "")))
    if found is None:
        return "This request is not known any more."
    review, seen_round = found
    username = mapped_user(channel, pressed)
    person = get_user_model()._default_manager.filter(username=username, is_active=True).first() if username else None
    if person is None:
        return NOT_MAPPED.format(url=review.absolute_url)
    decision = _DECISIONS[pressed["action"]["action_id"]]
    if decision == "approve" and review.risk >= DECIDE_BELOW_RISK:
        return f"The risk is {review.risk}: please look at the statement first: {review.absolute_url}"
    try:
        decided = decide_review(
            review=review,
            reviewer=person,
            decision=decision,
            reason=typed_reason(pressed),
            seen_round=seen_round,
            through=f"slack:{channel.name}:{pressed['team']['id']}/{pressed['user']['id']}"[:256],
        )
    except Refusal as refused:
        return f"Not taken: {refused.reason}. {review.absolute_url}"
    logger.info("decided from slack: review=%s channel=%s", review.pk, channel.pk)
    return f"{decided.get_status_display().capitalize()} by {person.get_username()}. {review.absolute_url}"


def _review_and_round(value: str) -> tuple[Review, int] | None:
    review_id, _, seen = value.partition(":")
    try:
        review = Review.objects.filter(pk=UUID(review_id)).first()
        return (review, int(seen)) if review is not None else None
    except ValueError:
        return None


def _answer(channel: Channel, pressed: dict[str, Any], sentence: str) -> None:
    """Tell whoever pressed, and nobody else, at the address Slack gave for it, if it is Slack's."""
    address = str(pressed.get("response_url") or "")
    if not _same_place(address, channel_url(channel)):
        return
    message = {"response_type": "ephemeral", "replace_original": False, "text": sentence}
    try:
        post(address, body=json.dumps(message).encode(), headers={"Content-Type": "application/json"})
    except (NotPermitted, NotReached) as problem:
        logger.warning("slack answer not sent: channel=%s error=%s", channel.pk, type(problem).__name__)


def _same_place(address: str, known: str) -> bool:
    there, ours = urlsplit(address), urlsplit(known)
    return bool(there.hostname) and (there.scheme, there.netloc) == (ours.scheme, ours.netloc)
