"""What happened. The log is the evidence; every other table here is its sealed text, or can be rebuilt from it.

`LogEntry`, `SealedText`, `LogHead`, `SessionRecord` and `StatementRecord` are written by `audit.domain.append` alone,
in one transaction; triggers refuse any change of a `LogEntry` or `Checkpoint` (migration 0002). Sessions, connections
and people are named by value: evidence outlives configuration.
"""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models

from audit.models_delivery import Anchor, AnchorProof, ReportChunk, ReportFile, ReportRun, Sink
from audit.models_retention import LegalHold, RetentionPolicy

__all__ = [
    "Anchor",
    "AnchorProof",
    "Checkpoint",
    "Export",
    "JournalPosition",
    "LegalHold",
    "LogDamage",
    "LogEntry",
    "LogHead",
    "LogState",
    "Recording",
    "RecordingChunk",
    "ReportChunk",
    "ReportFile",
    "ReportRun",
    "RetentionPolicy",
    "SealedText",
    "SessionRecord",
    "Sink",
    "StatementRecord",
    "SubjectKeyRow",
    "SubjectSighting",
]


class LogState(models.Model):
    """Which log this is: one row, locked by every append, so that `seq` has no gap under several writers."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    log_id = models.UUIDField(default=uuid.uuid4)  # part of the origin: another database is another log

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="audit_one_log_state")]

    def __str__(self) -> str:
        return self.log_id.hex


class LogHead(models.Model):
    """What the log was after an append; the newest one is its head (`audit.domain.head`). Older ones go."""

    after = models.BigIntegerField(primary_key=True)  # entries the log had before: no place is followed twice
    size = models.BigIntegerField()
    head = models.BinaryField()  # leaf hash of the newest entry
    frontier = models.BinaryField()  # roots of the perfect subtrees (audit.domain.merkle.Frontier)
    counts = models.JSONField(default=list)  # what it adds to sessions' numbers (audit.domain.session_counts)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.size} entries"


class LogEntry(models.Model):
    """One leaf. `canonical` is what was hashed; the other columns repeat parts of it for browsing."""

    seq = models.BigIntegerField(primary_key=True)  # from 1, gapless
    leaf = models.BinaryField(max_length=32)
    prev = models.BinaryField(max_length=32)
    canonical = models.BinaryField()
    kind = models.CharField(max_length=64)
    session_id = models.CharField(max_length=64, blank=True)
    statement_id = models.CharField(max_length=64, blank=True)
    subject = models.CharField(max_length=256, blank=True)
    connection = models.CharField(max_length=128, blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-seq"]
        verbose_name_plural = "log entries"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["session_id", "seq"], name="audit_entry_session"),
            # Ascending, and read backwards: what is appended goes to the end, and pages stay full. Kinds of nearly all
            # entries are found as fast without it.
            models.Index(
                fields=["kind", "seq"],
                name="audit_entry_rare_kind",
                condition=~models.Q(kind__in=["statement.authorised", "statement.completed"]),
            ),
            models.Index(fields=["subject", "seq"], name="audit_entry_by_subject"),
            # Summarised as it grows: what is not yet is read whole by whoever asks for a time.
            BrinIndex(fields=["at"], name="audit_entry_at", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"


class JournalPosition(models.Model):
    """Up to which place the log has taken in a process's journal. Kept after the journal is gone: never twice.

    A new row for every part that is taken in, instead of the one before: see `audit.domain.head`.
    """

    pk = models.CompositePrimaryKey("journal", "integrated")
    journal = models.CharField(max_length=36)
    integrated = models.BigIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.journal} {self.integrated}"


class SealedText(models.Model):
    """Statement text and parameters, encrypted; the leaf holds only a commitment, so this row can be erased."""

    seq = models.BigIntegerField(primary_key=True)
    key_id = models.CharField(max_length=16)
    box = models.BinaryField()

    class Meta:
        default_permissions = ()
        permissions = [("read_sealedtext", "Can read recorded statement text")]

    def __str__(self) -> str:
        return str(self.seq)


class SessionRecord(models.Model):
    """A session as the log tells it."""

    id = models.CharField(primary_key=True, max_length=64)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    close_reason = models.CharField(max_length=128, blank=True)
    subject = models.CharField(max_length=256, blank=True)
    actor = models.CharField(max_length=256, blank=True)
    owner = models.CharField(max_length=256, blank=True)
    issuer = models.CharField(max_length=512, blank=True)
    groups = models.JSONField(default=list)
    auth_method = models.CharField(max_length=32, blank=True)
    token_id = models.CharField(max_length=256, blank=True)
    connection = models.CharField(max_length=128, blank=True)
    protocol = models.CharField(max_length=32, blank=True)
    application = models.CharField(max_length=256, blank=True)
    client_address = models.CharField(max_length=128, blank=True)
    client_tls = models.CharField(max_length=128, blank=True)
    upstream_tls = models.CharField(max_length=128, blank=True)
    gateway = models.CharField(max_length=64, blank=True)  # the process that wrote it
    statements = models.PositiveIntegerField(default=0)
    denied = models.PositiveIntegerField(default=0)
    rows = models.BigIntegerField(default=0)
    first_seq = models.BigIntegerField()
    last_seq = models.BigIntegerField()

    class Meta:
        ordering = ["-opened_at", "-id"]
        verbose_name = "session"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="audit_session_newest"),
            models.Index(fields=["subject", "-opened_at"], name="audit_session_subject"),
            models.Index(fields=["connection", "-opened_at"], name="audit_session_conn"),
            models.Index(fields=["gateway"], name="audit_session_open", condition=models.Q(closed_at__isnull=True)),
            models.Index(fields=["first_seq"], name="audit_session_first_entry"),  # asked for by checks of the newest
        ]

    def __str__(self) -> str:
        return self.id


class StatementRecord(models.Model):
    """A statement as the log tells it."""

    class Status(models.TextChoices):
        HELD = "held", "waiting for a reviewer"
        RUNNING = "running", "running"
        COMPLETED = "completed", "completed"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"
        SKIPPED = "skipped", "skipped"
        DENIED = "denied", "denied"
        UNFINISHED = "unfinished", "unfinished"

    id = models.CharField(primary_key=True, max_length=64)
    session_id = models.CharField(max_length=64)
    at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    subject = models.CharField(max_length=256, blank=True)
    actor = models.CharField(max_length=256, blank=True)
    owner = models.CharField(max_length=256, blank=True)
    connection = models.CharField(max_length=128, blank=True)
    protocol = models.CharField(max_length=32, blank=True)
    gateway = models.CharField(max_length=64, blank=True)
    kind = models.CharField(max_length=64, blank=True)  # select, update …
    fingerprint = models.CharField(max_length=128, blank=True)
    complete = models.BooleanField(default=False)
    operations = models.JSONField(default=list)
    tables_read = models.JSONField(default=list)
    tables_written = models.JSONField(default=list)
    columns_read = models.JSONField(default=list)
    classes = models.JSONField(default=list)
    risk = models.IntegerField(default=0)
    decision = models.CharField(max_length=32, blank=True)
    rule = models.CharField(max_length=256, blank=True)
    code = models.CharField(max_length=64, blank=True)
    snapshot = models.BigIntegerField(default=0)
    review = models.CharField(max_length=64, blank=True)
    emergency = models.CharField(max_length=36, blank=True)  # the emergency access it ran under
    inputs = models.CharField(max_length=32, blank=True)  # digest of what its decision was made of
    approvers = models.JSONField(default=list)
    status = models.CharField(max_length=16, choices=Status.choices)
    rows = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    masked = models.JSONField(default=list)  # [{column, rule, technique, count}]
    about = models.JSONField(default=list)  # the kinds of subjects whose records it meets
    subjects = models.JSONField(default=list)  # [{name, known, count, without} or {name, known, why}]
    shown = models.JSONField(default=list)  # [{column, of, as}]: what the client saw, clear or how it was masked
    recording = models.CharField(max_length=128, blank=True)  # digest, as the log names it
    error = models.CharField(max_length=64, blank=True)
    command_tag = models.CharField(max_length=64, blank=True)
    first_seq = models.BigIntegerField()
    last_seq = models.BigIntegerField()
    # What a search asks for, as words such as "read:public.patients" or "class:ssn" (audit.domain.words). An
    # array, because PostgreSQL keeps statistics of its elements: a common word is looked for by time, a rare one here.
    touched = ArrayField(models.TextField(), default=list)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name = "statement"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["at", "id"], name="audit_statement_in_time"),
            models.Index(fields=["session_id", "at"], name="audit_statement_session"),
            models.Index(fields=["subject", "at"], name="audit_statement_by_subject"),
            models.Index(fields=["connection", "at"], name="audit_statement_by_conn"),
            models.Index(fields=["last_seq"], name="audit_statement_last_entry"),  # asked for before each checkpoint
            GinIndex(fields=["touched"], name="audit_statement_touched"),
            models.Index(fields=["-at", "-id"], name="audit_statement_denied", condition=models.Q(status="denied")),
            models.Index(fields=["gateway"], name="audit_statement_running", condition=models.Q(status="running")),
            # What nearly no statement is: costs nothing where a statement runs and completes.
            models.Index(
                fields=["status", "at", "id"],
                name="audit_statement_rare_status",
                condition=models.Q(status__in=["held", "failed", "cancelled", "skipped", "unfinished"]),
            ),
            models.Index(fields=["session_id"], name="audit_statement_emergency", condition=models.Q(emergency__gt="")),
            # What met a subject's records and does not say whose: few, and counted by every accounting.
            models.Index(
                fields=["-at"],
                name="audit_statement_gap",
                condition=~models.Q(about=[])
                & (models.Q(subjects=[]) | models.Q(subjects__contains=[{"known": False}])),
            ),
        ]

    def __str__(self) -> str:
        return self.id


class SubjectKeyRow(models.Model):
    """A key of subjects' tokens, sealed. The newest makes tokens, older ones only find. Erased: its box is empty."""

    sealed = models.BinaryField()
    created_at = models.DateTimeField()
    erased_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        verbose_name = "subject key"

    def __str__(self) -> str:
        return f"subject key {self.pk}"


class SubjectSighting(models.Model):
    """One subject in one result: which token the entry at `seq` has sealed. Written with that entry."""

    pk = models.CompositePrimaryKey("token", "seq")
    token = models.BinaryField(max_length=16)  # audit.domain.subjects
    seq = models.BigIntegerField(db_index=True)
    key = models.IntegerField()  # of SubjectKeyRow
    name = models.CharField(max_length=63)  # the kind of subject

    class Meta:
        default_permissions = ()
        permissions = [("read_subjectsighting", "Can ask who saw a patient's records")]

    def __str__(self) -> str:
        return f"{self.name} in entry {self.seq}"


class Checkpoint(models.Model):
    """A signed statement of the log's size and root. The frontier lets the next self-check start here."""

    size = models.BigIntegerField(db_index=True)
    root = models.BinaryField(max_length=32)
    frontier = models.BinaryField()
    head = models.BinaryField(max_length=32)
    note = models.TextField()
    signed_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.size} entries at {self.signed_at:%Y-%m-%d %H:%M:%S}"


class Recording(models.Model):
    """A masked result as the client saw it: compressed, encrypted chunks. The log names it by `digest`."""

    id = models.CharField(primary_key=True, max_length=64)
    session_id = models.CharField(max_length=64, db_index=True)
    statement_id = models.CharField(max_length=64, db_index=True)
    format = models.CharField(max_length=16)  # pgwire | jsonl
    digest = models.CharField(max_length=96, blank=True, db_index=True)  # hmac-sha256:<hex>, empty while open
    salt_box = models.BinaryField(default=b"")  # the digest's salt, sealed; erased with the chunks
    plain_bytes = models.BigIntegerField(default=0)
    stored_bytes = models.BigIntegerField(default=0)
    chunks = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        indexes = [BrinIndex(fields=["created_at"], name="audit_recording_created")]

    def __str__(self) -> str:
        return self.id


class RecordingChunk(models.Model):
    """One sealed chunk. `address` is the SHA-256 of `data`; a store outside the database leaves `data` empty.

    Partitioned by `at`, the moment its recording was created (audit.domain.chunk_partitions).
    """

    pk = models.CompositePrimaryKey("recording_id", "index", "at")
    recording = models.ForeignKey(
        Recording, on_delete=models.CASCADE, related_name="chunk_set", db_constraint=False, db_index=False
    )
    index = models.PositiveIntegerField()
    at = models.DateTimeField()
    address = models.CharField(max_length=64, db_index=True)
    data = models.BinaryField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.recording_id}/{self.index}"


class LogDamage(models.Model):
    """A place where the stored evidence is not as written, from the check that found it until it finds it no more."""

    seq = models.BigIntegerField()  # 0: not at an entry
    kind = models.CharField(max_length=64)
    detail = models.TextField()
    found_by_check = models.CharField(max_length=32)
    found_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    cleared_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "damage"
        verbose_name_plural = "damage"
        default_permissions = ("view",)
        indexes = [models.Index(fields=["id"], name="audit_damage_now", condition=models.Q(cleared_at__isnull=True))]

    def __str__(self) -> str:
        return f"entry {self.seq}: {self.kind}"


class Export(models.Model):
    """Evidence that left: who asked for which part of the log, and the digest of what they got."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    created_at = models.DateTimeField(auto_now_add=True)
    requested_by = models.CharField(max_length=256, blank=True)
    scope = models.JSONField(default=dict)
    with_text = models.BooleanField(default=False)
    size = models.BigIntegerField()
    digest = models.CharField(max_length=64)

    class Meta:
        ordering = ["-created_at"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.id)
