"""The configuration document (`apiVersion: hoopweb/v1`) as pydantic models. Unknown keys are errors, types are strict.

A section that is left out is left alone. Defaults here are the models' defaults, so that an exported document, which
omits them, says the same as the database.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from analysis.classified import parse_classified
from approvals.domain.events import EVENTS
from approvals.models.emergency import MAX_EMERGENCY_S, MAX_REVIEW_S
from audit.domain.marks import hidden_in
from gateway.domain.federation import PRESETS
from gateway.domain.quotas import LIMITS
from gateway.domain.secret_uris import uri_problem
from gateway.models import NAME, TOKEN_ALGORITHMS

API_VERSION = "hoopweb/v1"

Name = Annotated[str, StringConstraints(pattern=NAME.pattern)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]


def _seen(name: str) -> str:
    """Names stand in errors, mails and logs: what turns a line around, or begins another one, is no part of one."""
    if hidden := hidden_in(name):
        raise ValueError(f"expected letters that can be seen; this has {hidden}")
    return name


Title = Annotated[str, StringConstraints(max_length=120), AfterValidator(_seen)]
# Rules name groups by their letters: one that is not seen makes another group, which looks like the first.
GroupName = Annotated[Text, AfterValidator(_seen)]
GroupNames = Annotated[list[GroupName], Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Secret(Part):
    """Where a secret comes from; exactly one of the four. It is never exported."""

    env: str | None = None
    file: str | None = None
    value: str | None = Field(default=None, repr=False)
    uri: str | None = None

    @field_validator("uri")
    @classmethod
    def well_formed(cls, uri: str | None) -> str | None:
        if uri is not None and (problem := uri_problem(uri)):
            raise ValueError(problem)
        return uri

    @model_validator(mode="after")
    def exactly_one(self) -> Secret:
        if sum(part is not None for part in (self.env, self.file, self.value, self.uri)) != 1:
            raise ValueError("expected exactly one of env, file, value, uri")
        return self


class CloudCredentials(Part):
    """A service-account key (file, variable or the document), the machine's own identity, or none (emulators)."""

    env: str | None = None
    file: str | None = None
    value: str | None = Field(default=None, repr=False)
    anonymous: Literal[True] | None = None
    metadata: Literal[True] | None = None

    @model_validator(mode="after")
    def exactly_one(self) -> CloudCredentials:
        if sum(part is not None for part in (self.env, self.file, self.value, self.anonymous, self.metadata)) != 1:
            raise ValueError("expected exactly one of env, file, value, anonymous, metadata")
        return self


class Subjects(Part):
    """Which stored columns hold the number of one kind of subject."""

    name: Name
    columns: Texts


class ConnectionPart(Part):
    name: Name
    phi: bool = True
    recording: Literal["metadata", "masked-results"] = "masked-results"
    durability: Literal["database", "disk", "os"] = "database"
    scan_text: bool = True
    subjects: list[Subjects] = []
    enabled: bool = True


class SqlConnection(ConnectionPart):
    kind: Literal["postgres"]
    host: Text
    port: Annotated[int, Field(ge=1, le=65535)]
    database: Text
    username: Text
    password: Secret | None = None
    tls: Literal["disable", "require", "verify-full"] = "verify-full"
    settings: dict[str, str] = {}

    @field_validator("settings")
    @classmethod
    def functions_are_understood(cls, settings: dict[str, str]) -> dict[str, str]:
        parse_classified(settings.get("functions", ""))
        return settings


class BigQueryConnection(ConnectionPart):
    kind: Literal["bigquery"]
    project: Text
    location: str = ""
    api_endpoint: str = ""
    credentials: CloudCredentials | None = None
    settings: dict[str, str] = {}


Connection = Annotated[SqlConnection | BigQueryConnection, Field(discriminator="kind")]


class Access(Part):
    name: Title = ""
    groups: GroupNames
    connections: Texts
    operations: Annotated[list[Literal["read", "write", "temp", "listen", "ddl", "admin"]], Field(min_length=1)]

    @model_validator(mode="after")
    def named(self) -> Access:
        """A rule without a name is named after what it says, so that applying it again finds it."""
        if not self.name:
            name = f"{' '.join(self.groups)} on {' '.join(self.connections)}"
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            self.name = name if len(name) <= 120 else f"{name[:110]} {digest}"
        return self


class Masking(Part):
    name: Name
    connections: Texts
    columns: list[Text] = []
    technique: str
    inference: str = "guarded"
    exempt_groups: list[GroupName] = []
    data_class: str = ""
    keep: int = 4
    priority: int = 100


class ReviewerGroup(Part):
    group: GroupName
    quorum: Annotated[int, Field(ge=1)] = 1


class Policy(Part):
    name: Annotated[Title, StringConstraints(min_length=1)]
    description: str = ""
    connections: Texts
    when: dict[str, Any] = {}
    action: Literal["allow", "require_approval", "deny"]
    reviewers: list[GroupName | ReviewerGroup] = []
    reviewers_needed: Literal["all", "any"] = "all"
    quorum: Annotated[int, Field(ge=1)] = 1
    separation: bool = True
    skip_groups: list[GroupName] = []
    grants: Annotated[list[Literal["once", "shape", "tables", "connection"]], Field(min_length=1)] = ["once"]
    grant_for_s: Annotated[int, Field(ge=1)] = 3600
    max_uses: Annotated[int, Field(ge=1)] = 100
    max_rows: Annotated[int, Field(ge=1)] | None = None
    grace_s: Annotated[int, Field(ge=0)] = 0
    decide_within_s: Annotated[int, Field(ge=1)] = 3600
    execute_within_s: Annotated[int, Field(ge=1)] = 600
    escalate_to: list[GroupName] = []
    escalate_before_s: Annotated[int, Field(ge=0)] = 0
    step_up_s: Annotated[int, Field(ge=1)] | None = None
    enabled: bool = True


class Channel(Part):
    """A webhook has `url` and `secret`; Slack has `webhook_url` and, where people decide from it, `signing_secret`."""

    name: Name
    kind: Literal["webhook", "slack"]
    url: str = ""
    secret: Secret | None = None
    webhook_url: Secret | None = None
    signing_secret: Secret | None = None
    events: Annotated[list[Literal[tuple(EVENTS)]], Field(min_length=1)] = list(EVENTS)  # type: ignore[valid-type]
    connections: Texts = ["*"]
    groups: list[GroupName] = []
    people: dict[str, Text] = {}
    enabled: bool = True

    @model_validator(mode="after")
    def secrets_of_its_kind(self) -> Channel:
        foreign = {"webhook": ("webhook_url", "signing_secret"), "slack": ("url", "secret")}[self.kind]
        for name in foreign:
            if getattr(self, name):
                raise ValueError(f"{name} is not for a channel of kind {self.kind}")
        return self


class BreakGlass(Part):
    """A roster: named people, named connections, short."""

    name: Annotated[Title, StringConstraints(min_length=1)]
    connections: Texts
    members: Texts
    agents: list[Text] = []
    reviewers: GroupNames
    lasts_s: Annotated[int, Field(ge=60, le=MAX_EMERGENCY_S)] = 1800
    max_statements: Annotated[int, Field(ge=1)] = 100
    review_within_s: Annotated[int, Field(ge=60, le=MAX_REVIEW_S)] = 86400
    lifts_masks: bool = False
    enabled: bool = True


class FederationRule(Part):
    """Which tokens of a trusted issuer stand for the agent: each claim, and what it must say."""

    issuer: Text
    claims: Annotated[dict[Text, Text], Field(min_length=1)]


class Agent(Part):
    name: Name
    groups: list[GroupName] = []
    owner: Text
    purpose: str = ""
    enabled: bool = True
    expires_at: datetime | None = None
    client_id: str = ""
    client_secret: Secret | None = None
    secret_overlap_s: Annotated[int, Field(ge=0, le=30 * 86400)] = 0  # the old one works on for so long
    federated_subjects: list[Text] = []
    federation: list[FederationRule] = []
    jwks: dict[str, Any] = {}
    jwks_uri: str = ""

    @field_validator("expires_at")
    @classmethod
    def in_utc(cls, moment: datetime | None) -> datetime | None:
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment

    @model_validator(mode="after")
    def identified(self) -> Agent:
        self.client_id = self.client_id or self.name
        return self


class Quota(Part):
    """Limits of each agent whose name matches, on the connections that match, together."""

    name: Name
    agents: Texts
    connections: Texts = ["*"]
    statements_per_minute: Annotated[int, Field(ge=1)] | None = None
    statements_per_day: Annotated[int, Field(ge=1)] | None = None
    rows_per_day: Annotated[int, Field(ge=1)] | None = None
    bytes_per_day: Annotated[int, Field(ge=1)] | None = None
    concurrent_statements: Annotated[int, Field(ge=1)] | None = None
    enabled: bool = True

    @model_validator(mode="after")
    def limits_something(self) -> Quota:
        if all(getattr(self, limit) is None for limit in LIMITS):
            raise ValueError(f"expected at least one of {', '.join(LIMITS)}")
        return self


class Group(Part):
    name: Annotated[GroupName, StringConstraints(max_length=150)]
    members: list[Text] = []


class Issuer(Part):
    """`preset` fills in what is public about a platform; `place` is the tenant or URL its preset asks for."""

    name: Name
    issuer: Text
    jwks_uri: Text
    audience: Text = "hoopweb"
    algorithms: Annotated[list[Literal[TOKEN_ALGORITHMS]], Field(min_length=1)]  # type: ignore[valid-type]
    kind: Literal["agent", "person"] = "agent"
    subject_claim: Text = "sub"
    groups_claim: Text = "groups"
    groups_map: dict[str, Annotated[str, AfterValidator(_seen)]] = {}
    enabled: bool = True

    @model_validator(mode="before")
    @classmethod
    def filled_in(cls, given: Any) -> Any:
        """A preset is a way to write; what is kept and exported are the fields it stands for."""
        if not isinstance(given, dict) or "preset" not in given:
            return given
        rest = {key: value for key, value in given.items() if key not in ("preset", "place")}
        preset = PRESETS.get(given["preset"]) if isinstance(given["preset"], str) else None
        if preset is None:
            raise ValueError(f"preset is not known, expected one of {', '.join(PRESETS)}")
        place = given.get("place", "")
        if not isinstance(place, str) or bool(preset.place) != bool(place):
            raise ValueError(f"place: expected {preset.place or 'none for this preset'}")
        return {**preset.at(place), **rest}


class ScimToken(Part):
    """The identity provider's token. Its secret is random, at least 32 characters, and stored as a digest."""

    name: Name
    token: Secret | None = None
    enabled: bool = True
    expires_at: datetime | None = None

    @field_validator("expires_at")
    @classmethod
    def in_utc(cls, moment: datetime | None) -> datetime | None:
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


class Delivery(Part):
    name: Name
    enabled: bool = True
    url: str = ""
    secret: Secret | None = None


class Sink(Delivery):
    format: Literal["ocsf", "fhir", "syslog", "cef", "cloud-logging", "json"]
    ca: str = ""
    kinds: list[Text] = []
    history: bool = False


class Anchor(Delivery):
    kind: Literal["rfc3161", "witness", "mail", "directory", "bucket"]
    certificate: str = ""
    ca: str = ""
    recipients: list[Text] = []
    every_s: Annotated[int, Field(ge=60)] = 3600


class Document(Part):
    apiVersion: Literal["hoopweb/v1"]
    connections: list[Connection] | None = None
    access: list[Access] | None = None
    masking: list[Masking] | None = None
    policies: list[Policy] | None = None
    agents: list[Agent] | None = None
    quotas: list[Quota] | None = None
    groups: list[Group] | None = None
    issuers: list[Issuer] | None = None
    scim_tokens: list[ScimToken] | None = None
    sinks: list[Sink] | None = None
    channels: list[Channel] | None = None
    break_glass: list[BreakGlass] | None = None
    anchors: list[Anchor] | None = None
