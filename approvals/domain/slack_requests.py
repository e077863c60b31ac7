"""Requests of Slack's that were taken: within the window of its timestamp a signature counts once."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from approvals.models import SlackRequest

KEPT = timedelta(minutes=15)  # longer than a timestamp is believed, in either direction


def take_slack_request(signature: str) -> bool:
    """True for the first request with this signature, False for every repetition."""
    digest = hashlib.sha256(signature.encode()).hexdigest()
    try:
        with transaction.atomic():
            SlackRequest.objects.create(signature=digest)
    except IntegrityError:
        return False
    return True


def forget_old_slack_requests() -> None:
    SlackRequest.objects.filter(at__lt=timezone.now() - KEPT).delete()
