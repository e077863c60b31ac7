"""What carries evidence out of the database: sinks for entries, anchors for checkpoints, and reports that were made.

The spool of a sink is the log itself: `cursor` names the last entry the receiver has taken, and nothing is deleted from
the log. The spool of an anchor is the table of checkpoints.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from audit.sinks.formats import FORMATS
from audit.sinks.targets import TargetProblem, parse_target

_NAME = RegexValidator(re.compile(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z"), "expected lower-case letters, digits, '-' and '_'")


class Delivery(models.Model):
    """Where something goes and how that goes: what a sink and an anchor have in common."""

    name = models.CharField(max_length=63, unique=True, validators=[_NAME])
    enabled = models.BooleanField(default=True)
    url = models.CharField(max_length=1024, blank=True)
    sealed_secret = models.BinaryField(default=b"", editable=False)
    secret_digest = models.CharField(max_length=256, default="", blank=True, editable=False)
    cursor = models.BigIntegerField(default=0, editable=False)
    delivered_at = models.DateTimeField(null=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)  # in a row
    failing_since = models.DateTimeField(null=True, editable=False)
    next_try_at = models.DateTimeField(null=True, editable=False)
    problem = models.CharField(max_length=256, default="", blank=True, editable=False)  # our words, never the peer's

    class Meta:
        abstract = True


class Sink(Delivery):
    """Entries of the log to somewhere else: a security monitoring system, an audit repository, a file."""

    format = models.CharField(max_length=16, choices=[(name, spec.title) for name, spec in FORMATS.items()])
    ca = models.TextField("certificate authority", blank=True, help_text="PEM; empty: the system's authorities")
    kinds = models.JSONField(default=list, blank=True, help_text='entry kinds such as ["statement.*"]; empty: all')
    history = models.BooleanField(
        "deliver what the log holds already",
        default=False,
        help_text="read when the sink is made; otherwise it begins with what comes next",
    )
    batch = models.PositiveIntegerField(default=500, editable=False)  # shrinks when a receiver finds it too large

    class Meta:
        ordering = ["name"]
        verbose_name = "sink"

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new sink begins at the log's end, or with all of it."""
        if self._state.adding and not self.history:
            self.cursor = apps.get_model("audit", "LogHead").objects.aggregate(size=models.Max("size"))["size"] or 0
        super().save(*args, **kwargs)

    def clean(self) -> None:
        try:
            target = parse_target(self.url)
        except TargetProblem as problem:
            raise ValidationError({"url": str(problem)}) from None
        spec = FORMATS.get(self.format)
        if spec is not None and target.transport not in spec.transports:
            expected = " or ".join(sorted(spec.transports))
            raise ValidationError({"url": f"format {self.format} goes over {expected}, not {target.transport}"})
        if not isinstance(self.kinds, list) or not all(isinstance(kind, str) for kind in self.kinds):
            raise ValidationError({"kinds": "expected a list of entry kinds"})


class Anchor(Delivery):
    """Checkpoints to somebody who is not this database's administrator."""

    class Kind(models.TextChoices):
        RFC3161 = "rfc3161", "time stamp (RFC 3161)"
        WITNESS = "witness", "witness (C2SP tlog-witness)"
        MAIL = "mail", "mail to the auditor"
        DIRECTORY = "directory", "directory of notes"
        BUCKET = "bucket", "bucket of notes (S3, GCS)"

    kind = models.CharField(max_length=16, choices=Kind.choices)
    certificate = models.TextField(
        blank=True, help_text="rfc3161: the authority's root certificates in PEM; witness: its verifier key"
    )
    ca = models.TextField(
        "certificate authority",
        blank=True,
        help_text="who signed the certificate of its HTTPS, in PEM; empty: the system's authorities",
    )
    recipients = models.JSONField(default=list, blank=True, help_text='mail: a list such as ["auditor@example.org"]')
    every_s = models.PositiveIntegerField("every (seconds)", default=3600)

    class Meta:
        ordering = ["name"]
        verbose_name = "anchor"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        from audit.anchors.registry import anchor_problems  # noqa: PLC0415  it needs this model

        problems = anchor_problems(self)
        if problems:
            raise ValidationError(problems)


class AnchorProof(models.Model):
    """What came back from an anchor for one checkpoint: a time-stamp token, a cosignature, a mail's message id."""

    anchor = models.CharField(max_length=63)  # by name: evidence outlives configuration
    kind = models.CharField(max_length=16)
    size = models.BigIntegerField(db_index=True)
    note = models.TextField()
    proof = models.BinaryField(default=b"")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        verbose_name = "anchored checkpoint"

    def __str__(self) -> str:
        return f"{self.anchor}: {self.size} entries"


class ReportRun(models.Model):
    """A report somebody asked for: waiting, being made, ready to download, or failed."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        RUNNING = "running", "being made"
        READY = "ready", "ready"
        FAILED = "failed", "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    report = models.CharField(max_length=64)
    since = models.DateTimeField()
    until = models.DateTimeField()
    # About subjects (audit.reports.subjects): what was asked, with tokens, sealed; gone once the report is made.
    question = models.TextField(blank=True, default="")
    requested_by = models.CharField(max_length=256)
    requested_at = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    step = models.CharField(max_length=128, blank=True)
    done = models.PositiveIntegerField(default=0)  # of `steps`
    steps = models.PositiveIntegerField(default=1)
    size = models.BigIntegerField(default=0)  # of the log it was made from
    finished_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=256, blank=True)

    class Meta:
        ordering = ["-requested_at"]
        verbose_name = "report"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.report} {self.since:%Y-%m-%d} to {self.until:%Y-%m-%d}"


class ReportFile(models.Model):
    """One file of a report, kept in sealed pieces: worker and web need not share a disk."""

    run = models.ForeignKey(ReportRun, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=128)
    bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["id"]
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class ReportChunk(models.Model):
    file = models.ForeignKey(ReportFile, on_delete=models.CASCADE, related_name="chunks")
    index = models.PositiveIntegerField()
    box = models.BinaryField()

    class Meta:
        ordering = ["index"]
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["file", "index"], name="audit_report_chunk_place")]

    def __str__(self) -> str:
        return f"{self.file_id}/{self.index}"
