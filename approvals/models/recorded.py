"""What decisions were made of, kept so that another policy can be tried on what really happened."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class DecisionInput(models.Model):
    """One distinct question to the decision point (`approvals.domain.inputs`): names, counts and flags, no literal.

    Content-addressed: statements of the same shape by the same principal share a row, and name it in their record.
    """

    digest = models.CharField(primary_key=True, max_length=32)
    document = models.JSONField()
    first_seen = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest
