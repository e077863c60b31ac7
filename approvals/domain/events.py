"""What channels can be told about: stable names that receivers filter by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Event(StrEnum):
    """Messages to channels; not to be confused with entries of the log, some of which are called alike."""

    REVIEW_OPENED = "review.opened"
    REVIEW_REMINDER = "review.reminder"
    REVIEW_ESCALATED = "review.escalated"
    REVIEW_ENDED = "review.ended"
    EMERGENCY_OPENED = "emergency.opened"
    EMERGENCY_ENDED = "emergency.ended"
    EMERGENCY_OVERDUE = "emergency.overdue"
    EMERGENCY_REVIEWED = "emergency.reviewed"
    CHANNEL_TEST = "channel.test"


# What a channel may ask for, in words; a test message is only ever sent on demand.
EVENTS: Mapping[str, str] = {
    Event.REVIEW_OPENED.value: "a statement waits, or its text was changed by a reviewer",
    Event.REVIEW_REMINDER.value: "a quarter of the time to decide is left",
    Event.REVIEW_ESCALATED.value: "nobody decided, and others may from now on",
    Event.REVIEW_ENDED.value: "approved, denied, expired or withdrawn",
    Event.EMERGENCY_OPENED.value: "somebody broke the glass",
    Event.EMERGENCY_ENDED.value: "an emergency access is over and waits for its review",
    Event.EMERGENCY_OVERDUE.value: "an emergency access was not reviewed in time",
    Event.EMERGENCY_REVIEWED.value: "an emergency access was reviewed",
}

# Told only while the review is still open: later they would call people for nothing.
WHILE_PENDING = frozenset({Event.REVIEW_OPENED, Event.REVIEW_REMINDER, Event.REVIEW_ESCALATED})
