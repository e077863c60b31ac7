"""Upstreams, and the secrets by which the gateway signs in there."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models
from django.utils import timezone

from gateway.domain.addresses import BIGQUERY_SERVICE, is_loopback
from gateway.domain.sockets import is_socket, socket_problems
from gateway.models.names import NAME, validate_name

# A subject's column is named exactly: a glob would not say which tables are about patients.
STORED_COLUMN = re.compile(r"^[^\s.*?\[\]]+(\.[^\s.*?\[\]]+){2,}$")


def subjects_problem(subjects: object) -> str:
    """What is wrong with a declaration of subjects, or nothing."""
    if not isinstance(subjects, list):
        return "expected a list of kinds of subjects"
    names: set[str] = set()
    for kind in subjects:
        if not isinstance(kind, dict) or set(kind) != {"name", "columns"} or not isinstance(kind["columns"], list):
            return "expected name and columns of each kind"
        name = kind["name"]
        if not isinstance(name, str) or not NAME.match(name) or name in names:
            return f"{name!r} is no name or is given twice"
        names.add(name)
        for column in kind["columns"] or [""]:
            if not isinstance(column, str) or not STORED_COLUMN.match(column):
                return f"{column!r} is no stored column, expected schema.table.column without globs"
    return ""


class Connection(models.Model):
    """An upstream the gateway may proxy to. `settings` holds what only its kind knows (project, location …)."""

    class Kind(models.TextChoices):
        POSTGRES = "postgres", "PostgreSQL"
        BIGQUERY = "bigquery", "BigQuery"
        SNOWFLAKE = "snowflake", "Snowflake"
        MYSQL = "mysql", "MySQL"
        GCS = "gcs", "Cloud Storage"
        KUBERNETES = "kubernetes", "Kubernetes"

        @property
        def is_served(self) -> bool:
            """Whether this version has a way to it. The names of the others are kept for those to come."""
            return self.value in {"postgres", "bigquery"}

    class Tls(models.TextChoices):
        DISABLE = "disable", "disable (loopback and Unix sockets only)"
        REQUIRE = "require", "require"
        VERIFY_FULL = "verify-full", "verify-full"

    class Recording(models.TextChoices):
        METADATA = "metadata", "metadata"
        MASKED_RESULTS = "masked-results", "masked results"

    class Durability(models.TextChoices):
        DATABASE = "database", "database: committed in the control database"
        DISK = "disk", "disk: journal synced, survives power loss"
        OS = "os", "os: survives a process crash"

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    kind = models.CharField(max_length=20, choices=Kind, default=Kind.POSTGRES)
    host = models.CharField(max_length=255, blank=True)
    port = models.PositiveIntegerField(default=0, validators=[MaxValueValidator(65535)])
    database = models.CharField(max_length=255, blank=True)
    username = models.CharField(max_length=255, blank=True)
    tls = models.CharField(max_length=20, choices=Tls, default=Tls.VERIFY_FULL)
    phi = models.BooleanField("holds PHI", default=True, help_text="incomplete analyses never pass plainly")
    recording = models.CharField(max_length=20, choices=Recording, default=Recording.MASKED_RESULTS)
    durability = models.CharField(max_length=20, choices=Durability, default=Durability.DATABASE)
    scan_text = models.BooleanField(default=True, help_text="detectors search text that no masking rule covers")
    enabled = models.BooleanField(default=True)
    settings = models.JSONField(default=dict, blank=True)
    subjects = models.JSONField(default=list, blank=True)  # [{"name": …, "columns": ["schema.table.column", …]}]
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="connection_plaintext_on_loopback_only",
                condition=~models.Q(tls="disable")
                | models.Q(host__in=["localhost", "::1", "[::1]"])
                | models.Q(host__startswith="127.")
                | models.Q(host__startswith="/"),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.tls == self.Tls.DISABLE and not (is_loopback(self.host) or is_socket(self.host)):
            raise ValidationError({"tls": "disable is for loopback hosts only, expected require or verify-full"})
        if self.enabled and self.kind in self.Kind and not self.Kind(self.kind).is_served:
            raise ValidationError({"kind": "is not one this version serves, expected PostgreSQL or BigQuery"})
        if self.kind in {self.Kind.POSTGRES, self.Kind.MYSQL}:
            missing = [name for name in ("host", "port", "database", "username") if not getattr(self, name)]
            if missing:
                raise ValidationError(dict.fromkeys(missing, f"expected a value for a {self.kind} connection"))
        if self.kind == self.Kind.BIGQUERY:
            self._clean_bigquery()
        if not isinstance(self.settings, dict) or not all(isinstance(v, str) for v in self.settings.values()):
            raise ValidationError({"settings": "expected an object of text values"})
        if self.settings.get("pooler", "session") != "session":
            raise ValidationError({"settings": "expected a pooler that keeps a server for a whole session: session"})
        self._clean_socket()
        problem = subjects_problem(self.subjects)
        if problem:
            raise ValidationError({"subjects": problem})

    def _clean_socket(self) -> None:
        if self.kind == self.Kind.POSTGRES:
            problems = socket_problems(host=self.host, port=self.port, tls=self.tls, settings=self.settings)
            if problems:
                raise ValidationError(problems)
        elif is_socket(self.host):
            raise ValidationError({"host": "expected a host name: directories of sockets are for postgres"})

    def _clean_bigquery(self) -> None:
        """The same that the upstream would refuse, told before anybody depends on it."""
        given = self.settings if isinstance(self.settings, dict) else {}
        if not given.get("project"):
            raise ValidationError({"settings": "expected a project for a bigquery connection"})
        endpoint = urlsplit(str(given.get("api_endpoint") or BIGQUERY_SERVICE))
        on_loopback = is_loopback(endpoint.hostname or "")
        if endpoint.scheme != "https" and not (endpoint.scheme == "http" and on_loopback):
            raise ValidationError({"settings": "api_endpoint is not https://, which is for loopback hosts only"})
        if given.get("credentials") == "anonymous" and not on_loopback:
            raise ValidationError({"settings": "anonymous access is for an emulator on loopback only"})


class Credential(models.Model):
    """A connection's secret, in a sealed box that only the data plane can open (`gateway.domain.credentials`)."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="credential")
    sealed = models.BinaryField()
    key_id = models.CharField(max_length=16)
    digest = models.CharField(max_length=255, blank=True, help_text="slow hash: is `apply` bringing another secret?")
    rotated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"credential of {self.connection_id}"
