"""How long evidence is kept, and what must be kept longer. What a purge destroyed is in the log (`evidence.purged`)."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models

# 45 CFR 164.316(b)(2)(i): six years from creation, or from when it last was in effect.
SIX_YEARS_DAYS = 6 * 366


class RetentionPolicy(models.Model):
    """How long one class of record is kept. The entries themselves (ids, names, counts, hashes) are never purged."""

    class RecordClass(models.TextChoices):
        TEXTS = "texts", "statement texts, parameters, reasons"
        RECORDINGS = "recordings", "recorded results"
        SUBJECTS = "subjects", "whose records were shown"
        PROJECTIONS = "projections", "session and statement records, for browsing and reports"

    record_class = models.CharField(primary_key=True, max_length=16, choices=RecordClass)
    days = models.PositiveIntegerField(
        default=SIX_YEARS_DAYS,
        validators=[MinValueValidator(1)],
        help_text="what is older is purged every night; six years unless the law of your state says otherwise",
    )

    class Meta:
        ordering = ["record_class"]
        verbose_name = "retention"
        verbose_name_plural = "retention"
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return str(self.get_record_class_display())


class LegalHold(models.Model):
    """What must not be purged: everything that fits all that is given. Released, never deleted."""

    name = models.CharField(max_length=120, unique=True)
    reason = models.TextField()
    subject = models.CharField("agent or person", max_length=256, blank=True)
    connection = models.CharField(max_length=128, blank=True)
    session = models.CharField(max_length=64, blank=True)
    since = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    placed_by = models.CharField(max_length=256, editable=False)
    placed_at = models.DateTimeField(auto_now_add=True)
    released_by = models.CharField(max_length=256, blank=True, editable=False)
    released_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-placed_at"]
        default_permissions = ("view", "add", "change")

    def __str__(self) -> str:
        return self.name
