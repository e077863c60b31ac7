"""Where people are told besides mail: channels, what is on its way to them, and what Slack has sent us."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from approvals.domain.events import EVENTS

EVENT_CHOICES = [(name, name) for name in EVENTS]
_NAME = RegexValidator(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z", "expected lower-case letters, digits, '-' and '_'")


def every_event() -> list[str]:
    return list(EVENTS)


def every_connection() -> list[str]:
    return ["*"]


class Channel(models.Model):
    """One receiver. Its secrets lie in `sealed` (`approvals.domain.channels`), bound to its name."""

    class Kind(models.TextChoices):
        WEBHOOK = "webhook", "signed webhook"
        SLACK = "slack", "Slack"

    name = models.CharField(max_length=63, unique=True, validators=[_NAME])
    kind = models.CharField(max_length=10, choices=Kind)
    url = models.CharField(
        max_length=500, blank=True, help_text="where a webhook is posted; Slack's is a secret and set below"
    )
    events = ArrayField(models.CharField(max_length=32, choices=EVENT_CHOICES), default=every_event)
    connections = ArrayField(
        models.CharField(max_length=120), default=every_connection, help_text="globs over connection names"
    )
    groups = ArrayField(
        models.CharField(max_length=150), default=list, blank=True, help_text="only what these decide; empty: all"
    )
    people = models.JSONField(
        default=dict,
        blank=True,
        help_text='who may decide from Slack, by team id/member id, such as {"T0123ABCD/U0456EFGH": "reviewer"}',
    )
    enabled = models.BooleanField(default=True)
    sealed = models.BinaryField(default=b"", editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        problems: dict[str, str] = {}
        if self.kind == self.Kind.WEBHOOK and not urlsplit(self.url).hostname:
            problems["url"] = "expected an address such as https://siem.example.org/hoopweb"
        if self.kind == self.Kind.SLACK and self.url:
            problems["url"] = "Slack's address is a secret, expected it among the secrets"
        if self.kind == self.Kind.WEBHOOK and self.people:
            problems["people"] = "nobody decides from a webhook, expected a Slack channel"
        if not _is_mapping_of_people(self.people):
            problems["people"] = "expected user names by '<team id>/<member id>'"
        if problems:
            raise ValidationError(problems)


def _is_mapping_of_people(people: object) -> bool:
    if not isinstance(people, dict):
        return False
    return all(isinstance(user, str) and user and str(member).count("/") == 1 for member, user in people.items())


class Delivery(models.Model):
    """One message to one channel. `payload` holds names and counts only: no statement, no value, no patient.

    pending → delivered | dead | moot; a person may send a dead one again. The id is the message's id on every attempt,
    so that a receiver can tell a repetition.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        DEAD = "dead", "given up"
        MOOT = "moot", "no longer needed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=32)
    about = models.CharField(max_length=100, help_text="what it tells of; one message of a kind per channel")
    payload = models.JSONField()
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(default=timezone.now)
    tried_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    answer = models.PositiveSmallIntegerField(null=True, help_text="the receiver's HTTP status")
    problem = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "deliveries"
        default_permissions = ("view", "change")
        constraints = [models.UniqueConstraint(name="delivery_once", fields=["channel", "event", "about"])]
        indexes = [
            models.Index(name="delivery_due", fields=["next_at"], condition=models.Q(state="pending")),
            models.Index(name="delivery_by_channel", fields=["channel", "-created_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.channel.name}"


class SlackRequest(models.Model):
    """A request of Slack's that was taken, by its signature: within the window of its timestamp it counts once."""

    signature = models.CharField(primary_key=True, max_length=64)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.signature
