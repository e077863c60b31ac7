"""Break-glass: who may, the accesses they took, and every statement that ran under one (45 CFR 164.312(a)(2)(ii))."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

MAX_EMERGENCY_S = 8 * 3600
MAX_REVIEW_S = 7 * 24 * 3600


class EmergencyRoster(models.Model):
    """Named people who may use named connections without asking, for a short while, and who looks at it afterwards."""

    name = models.CharField(max_length=120, unique=True)
    connections = ArrayField(models.CharField(max_length=120), help_text="names, no globs")
    members = ArrayField(models.CharField(max_length=150), help_text="user names, no groups: people are named here")
    agents = ArrayField(
        models.CharField(max_length=120),
        default=list,
        blank=True,
        help_text="agents a member may use it through, if they answer for them",
    )
    reviewers = ArrayField(models.CharField(max_length=150), help_text="groups that are alerted and review it")
    lasts_s = models.PositiveIntegerField(
        "lasts at most (seconds)",
        default=1800,
        validators=[MinValueValidator(60), MaxValueValidator(MAX_EMERGENCY_S)],
        help_text="longest life of one access",
    )
    max_statements = models.PositiveIntegerField("most statements", default=100, validators=[MinValueValidator(1)])
    review_within_s = models.PositiveIntegerField(
        "review within (seconds)",
        default=24 * 3600,
        validators=[MinValueValidator(60), MaxValueValidator(MAX_REVIEW_S)],
        help_text="after its end",
    )
    lifts_masks = models.BooleanField(default=False, help_text="answers come in clear; otherwise masked as always")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        problems = {}
        for field in ("connections", "members", "reviewers"):
            if not getattr(self, field):
                problems[field] = "is empty, expected at least one"
        if any(set(name) & set("*?[") for name in self.connections or ()):
            problems["connections"] = "holds a glob, expected names: an emergency reaches what is written here"
        if problems:
            raise ValidationError(problems)


class EmergencyAccess(models.Model):
    """One breaking of the glass. Its terms are the roster's of that moment; people are named by value."""

    class Finding(models.TextChoices):
        JUSTIFIED = "justified"
        FOLLOW_UP = "follow-up", "needs a follow-up"
        MISUSE = "misuse"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    roster = models.CharField(max_length=120)
    person = models.CharField(max_length=150)
    issuer = models.CharField(max_length=500, blank=True, help_text="who vouches for the person; empty: this product")
    agent = models.CharField(max_length=120, blank=True, help_text="through which agent; empty: the person themselves")
    connection = models.CharField(max_length=120)
    sealed_reason = models.BinaryField()
    lifts_masks = models.BooleanField()
    max_statements = models.PositiveIntegerField()
    reviewer_groups = ArrayField(models.CharField(max_length=150))
    opened_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=150, blank=True, help_text="empty: by time")
    statements = models.PositiveIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    review_by = models.DateTimeField()
    overdue_told_at = models.DateTimeField(null=True)
    reviewed_at = models.DateTimeField(null=True)
    reviewed_by = models.CharField(max_length=150, blank=True)
    finding = models.CharField(max_length=10, choices=Finding, blank=True)
    sealed_notes = models.BinaryField(null=True)

    class Meta:
        ordering = ["-opened_at"]
        default_permissions = ("view",)
        verbose_name_plural = "emergency accesses"
        constraints = [
            models.UniqueConstraint(
                name="emergency_one_at_a_time", fields=["person", "agent", "connection"], condition=Q(ended_at=None)
            ),
            models.CheckConstraint(
                name="emergency_reviewed_with_a_finding",
                condition=Q(reviewed_at=None, finding="") | (Q(reviewed_at__isnull=False) & ~Q(finding="")),
            ),
        ]
        indexes = [
            models.Index(name="emergency_open", fields=["ends_at"], condition=Q(ended_at=None)),
            models.Index(name="emergency_unreviewed", fields=["review_by"], condition=Q(reviewed_at=None)),
        ]

    def __str__(self) -> str:
        return f"emergency {self.id}"

    def get_absolute_url(self) -> str:
        return reverse("approvals:emergency", args=[self.pk])

    @property
    def is_open(self) -> bool:
        return self.ended_at is None and timezone.now() < self.ends_at

    @property
    def is_overdue(self) -> bool:
        return self.reviewed_at is None and timezone.now() >= self.review_by

    @property
    def state(self) -> str:
        """In force, waiting for its review, overdue, or reviewed."""
        if self.reviewed_at is not None:
            return "reviewed"
        return "in force" if self.is_open else "overdue" if self.is_overdue else "to review"


class EmergencyUse(models.Model):
    """One statement under an emergency access: claimed, confirmed right before it runs, given back if it did not."""

    class State(models.TextChoices):
        CLAIMED = "claimed"
        CONFIRMED = "confirmed"
        RELEASED = "released"

    access = models.ForeignKey(EmergencyAccess, on_delete=models.CASCADE, related_name="uses")
    statement_id = models.CharField(max_length=36)
    session_id = models.CharField(max_length=36, blank=True)
    kind = models.CharField(max_length=64)
    tables = ArrayField(models.CharField(max_length=255), default=list)
    classes = ArrayField(models.CharField(max_length=64), default=list)
    rule = models.CharField(max_length=500, blank=True, help_text="what would have held it; empty: nothing")
    state = models.CharField(max_length=10, choices=State, default=State.CLAIMED)
    at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)
    rows = models.PositiveBigIntegerField(null=True)

    class Meta:
        ordering = ["at"]
        default_permissions = ()
        indexes = [models.Index(name="emergency_use_open", fields=["at"], condition=Q(state="claimed"))]

    def __str__(self) -> str:
        return f"{self.statement_id}: {self.state}"
