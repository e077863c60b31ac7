"""What approvals store: policies, reviews and grants (`decisions`), where people are told (`channel`, `mail`)."""

from __future__ import annotations

from approvals.models.channel import Channel, Delivery, SlackRequest
from approvals.models.decisions import (
    MAX_WAIT_S,
    Grant,
    GrantUse,
    Policy,
    PolicyVersion,
    Review,
    ReviewLink,
    Vote,
    once_only,
)
from approvals.models.emergency import EmergencyAccess, EmergencyRoster, EmergencyUse
from approvals.models.idempotency import IdempotentRequest
from approvals.models.mail import ReviewMail
from approvals.models.recorded import DecisionInput

__all__ = [
    "MAX_WAIT_S",
    "Channel",
    "DecisionInput",
    "Delivery",
    "EmergencyAccess",
    "EmergencyRoster",
    "EmergencyUse",
    "Grant",
    "GrantUse",
    "IdempotentRequest",
    "Policy",
    "PolicyVersion",
    "Review",
    "ReviewLink",
    "ReviewMail",
    "SlackRequest",
    "Vote",
    "once_only",
]
