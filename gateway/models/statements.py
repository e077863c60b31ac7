"""Statements asked over REST."""

from __future__ import annotations

from django.db import models


class RestStatement(models.Model):
    """A statement asked over REST, so that its answer can be fetched later. Text and rows are sealed."""

    class Status(models.TextChoices):
        RUNNING = "running"
        PENDING = "pending"
        COMPLETED = "completed"
        DENIED = "denied"
        EXPIRED = "expired"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True)
    session_id = models.CharField(max_length=36, db_index=True)
    subject = models.CharField(max_length=255)
    issuer = models.CharField(max_length=500)
    asker = models.JSONField(default=dict, help_text="kind, actor and groups it was asked with")
    connection = models.CharField(max_length=63)
    status = models.CharField(max_length=10, choices=Status)
    review = models.JSONField(null=True, blank=True)
    problem = models.JSONField(null=True, blank=True)
    row_count = models.PositiveBigIntegerField(null=True, blank=True)
    binding = models.CharField(max_length=64, db_index=True)
    holder = models.CharField(max_length=64, blank=True, help_text="the data-plane process that runs or holds it")
    was_held = models.BooleanField(default=False)
    sealed_request = models.BinaryField(default=bytes)
    sealed_result = models.BinaryField(default=bytes)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    collected_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "REST statement"

    def __str__(self) -> str:
        return str(self.id)
