"""Configuration of the data path, and the few rows identity needs: what the gateway loads into its Snapshot.

Nothing here is evidence: the log refers to these rows by value (names), because evidence must outlive configuration.
Every change of rules ends with `gateway.domain.version.bump_version()` in the same transaction.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone

from gateway.domain.federation import federation_problem
from gateway.domain.public_keys import registered_keys_problem
from gateway.domain.quotas import LIMITS
from gateway.domain.sockets import is_socket, socket_problems

# The name is the database name a client dials and part of URLs: no dots, slashes or upper case.
NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")
# A subject's column is named exactly: a glob would not say which tables are about patients.
STORED_COLUMN = re.compile(r"^[^\s.*?\[\]]+(\.[^\s.*?\[\]]+){2,}$")
validate_name = RegexValidator(NAME, "expected lower-case letters, digits, '-' and '_', at most 63 characters")
# Asymmetric signatures only (RFC 8725 §3.1): a shared-secret algorithm would make every verifier an issuer.
TOKEN_ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")
OPERATIONS = ("read", "write", "temp", "listen", "ddl", "admin")


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


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine. A name other than `localhost` is not: resolvers may be lied to."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def keys_address_problem(url: str) -> str:
    """What is wrong with an address of public keys, or nothing."""
    parts = urlsplit(url)
    if url and parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return "keys over plain HTTP are for loopback hosts only, expected https://"
    if parts.username or parts.password:
        return "expected an address without a user name"
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
        endpoint = urlsplit(str(given.get("api_endpoint") or "https://bigquery.googleapis.com"))
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


class AccessRule(models.Model):
    """Groups that may use connections (globs) for these operations: necessary for every statement."""

    name = models.CharField(max_length=120, unique=True)
    groups = ArrayField(models.CharField(max_length=150), help_text="names, separated by commas")
    connections = ArrayField(models.CharField(max_length=120), help_text="globs over connection names")
    operations = ArrayField(models.CharField(max_length=20), help_text="read, write, ddl, admin")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        unknown = sorted(set(self.operations or ()) - set(OPERATIONS))
        if unknown:
            raise ValidationError({"operations": f"{unknown[0]!r} is unknown, expected {', '.join(OPERATIONS)}"})


class Agent(models.Model):
    """A software principal: who answers for it, what it may join, and since when its tokens count."""

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    groups = ArrayField(models.CharField(max_length=150), default=list, blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="agents")
    purpose = models.CharField(max_length=500, blank=True)
    enabled = models.BooleanField(default=True)
    revoked_before = models.DateTimeField(null=True, blank=True, help_text="tokens issued earlier are refused")
    expires_at = models.DateTimeField(null=True, blank=True)
    client_id = models.CharField(max_length=80, unique=True)
    federated_subjects = ArrayField(
        models.CharField(max_length=700),
        default=list,
        blank=True,
        help_text="'<issuer URL>|<subject>' pairs whose tokens may be exchanged for this agent's",
    )
    federation = models.JSONField(default=list, blank=True)  # [{"issuer": …, "claims": {claim: pattern}}]
    jwks = models.JSONField("public keys", default=dict, blank=True)  # a JWK set, for private_key_jwt
    jwks_uri = models.URLField("address of its public keys", max_length=500, blank=True)
    last_token_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if problem := federation_problem(self.federation):
            raise ValidationError({"federation": problem})
        if self.jwks and (problem := registered_keys_problem(self.jwks)):
            raise ValidationError({"jwks": problem})
        if self.jwks and self.jwks_uri:
            raise ValidationError({"jwks_uri": "keys are registered already, expected either those or an address"})
        if problem := keys_address_problem(self.jwks_uri):
            raise ValidationError({"jwks_uri": problem})


class ClientSecret(models.Model):
    """One of an agent's secrets. Two may live at once, so that nothing stops while one replaces the other."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="client_secrets")
    digest = models.CharField(max_length=255)  # a slow hash
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"secret {self.pk} of {self.agent_id}"


class UsedAssertion(models.Model):
    """A client assertion that was presented (RFC 7523 §3 point 7). Kept until it has expired by itself."""

    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest[:12]


class Quota(models.Model):
    """How much each principal of these names may ask for on these connections together. Empty: no limit."""

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    agents = ArrayField(
        models.CharField(max_length=255), help_text="globs over names; each agent has a count of its own"
    )
    connections = ArrayField(models.CharField(max_length=120), help_text="globs over connection names")
    statements_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="also how many at once after a quiet minute"
    )
    statements_per_day = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    rows_per_day = models.PositiveBigIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="the statement that passes it still ends"
    )
    bytes_per_day = models.PositiveBigIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    concurrent_statements = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="running ones; held ones do not count"
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if all(getattr(self, limit) is None for limit in LIMITS):
            raise ValidationError(f"expected at least one of {', '.join(LIMITS)}")


class Issuer(models.Model):
    """A trusted OIDC issuer, pinned by its exact `iss`. Nothing else is ever fetched or believed."""

    class Kind(models.TextChoices):
        AGENT = "agent", "agents"
        PERSON = "person", "people"

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    issuer = models.URLField(unique=True, max_length=500)
    jwks_uri = models.URLField(max_length=500)
    audience = models.CharField(max_length=255, default="hoopweb")
    algorithms = ArrayField(models.CharField(max_length=10), default=list)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.AGENT)
    subject_claim = models.CharField(max_length=63, default="sub")
    groups_claim = models.CharField(max_length=63, default="groups")
    groups_map = models.JSONField(default=dict, blank=True, help_text="claim value → group; empty: values are groups")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        unknown = sorted(set(self.algorithms or ()) - set(TOKEN_ALGORITHMS))
        if unknown or not self.algorithms:
            expected = ", ".join(TOKEN_ALGORITHMS)
            raise ValidationError({"algorithms": f"{unknown[:1] or 'nothing'} given, expected some of {expected}"})
        if problem := keys_address_problem(self.jwks_uri):
            raise ValidationError({"jwks_uri": problem})
        if not isinstance(self.groups_map, dict) or not all(isinstance(v, str) for v in self.groups_map.values()):
            raise ValidationError({"groups_map": "expected an object of text values"})


class Ticket(models.Model):
    """A one-time password for drivers. The secret is stored hashed; the principal is kept by value."""

    secret_hash = models.CharField(max_length=64, unique=True)
    subject = models.CharField(max_length=255)
    principal = models.JSONField()
    connection = models.CharField(max_length=63)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"ticket of {self.subject} for {self.connection}"


class RevokedToken(models.Model):
    """A token withdrawn before its expiry, by `jti`. Rows may go once the token would have expired."""

    jti = models.CharField(max_length=255, unique=True)
    expires_at = models.DateTimeField(db_index=True)
    revoked_at = models.DateTimeField(auto_now_add=True)
    reason = models.CharField(max_length=255, blank=True)

    def __str__(self) -> str:
        return self.jti


class ConfigVersion(models.Model):
    """The version of all rules: one row, raised in the transaction that changes them."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, validators=[MinValueValidator(1)])
    version = models.PositiveBigIntegerField(default=0)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.CheckConstraint(name="config_version_single_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return str(self.version)


class PersonStatus(models.Model):
    """What identity must know of a person beyond Django's account: who vouches for them, since when tokens count."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="hoopweb_status")
    revoked_before = models.DateTimeField(null=True, blank=True)
    oidc_subject = models.CharField(max_length=800, null=True, blank=True, unique=True, help_text="'<issuer>|<sub>'")
    managed = models.BooleanField(default=False, help_text="the identity provider made the account and may change it")
    external_id = models.CharField(max_length=255, null=True, blank=True, unique=True, help_text="SCIM externalId")

    def __str__(self) -> str:
        return str(self.user)


class ScimToken(models.Model):
    """A bearer token of the identity provider's, with which it keeps people and groups (SCIM). Stored hashed."""

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    digest = models.CharField(max_length=64, editable=False, db_index=True)  # 256 random bits need no slow hash
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["name"]
        verbose_name = "provisioning token"

    def __str__(self) -> str:
        return self.name


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

    def __str__(self) -> str:
        return str(self.id)
