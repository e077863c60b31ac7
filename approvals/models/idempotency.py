"""Requests that must not be done twice: what a client's `Idempotency-Key` stands for, for a day."""

from __future__ import annotations

from django.db import models


class IdempotentRequest(models.Model):
    """One key of one principal. The key and the request are kept as digests, the answer sealed.

    `answer_status` 0: not answered yet, or never (the process ended in the middle): nobody can say whether it was done.
    """

    key_digest = models.CharField(max_length=64, unique=True)
    request_digest = models.CharField(max_length=64)
    answer_status = models.PositiveSmallIntegerField(default=0)
    content_type = models.CharField(max_length=100, blank=True)
    statement_id = models.CharField(max_length=36, blank=True, help_text="whose own answer is read instead")
    sealed_answer = models.BinaryField(default=bytes)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"idempotent request {self.pk}"
