"""Mails to reviewers as far as they are counted: nobody is flooded, and nothing that waits goes untold."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class ReviewMail(models.Model):
    """A mail to one reviewer that was sent, or is held back for the next digest."""

    reviewer = models.CharField(max_length=255)
    review = models.ForeignKey("approvals.Review", on_delete=models.CASCADE, related_name="mails")
    held = models.BooleanField(default=False, help_text="waits for the digest")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(name="mail_by_reviewer", fields=["reviewer", "-at"]),
            models.Index(name="mail_held", fields=["reviewer"], condition=models.Q(held=True)),
        ]

    def __str__(self) -> str:
        return f"mail to {self.reviewer}"
