"""The rules as the data path sees them: frozen, versioned, loaded whole by `gateway.store`, never edited.

A statement is decided over exactly one Snapshot; the record names its version. Past `max_age_s` the gateway refuses
(fail closed): rules nobody could have revoked are not rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from approvals.domain.decide import AccessRule, PolicyRule
from approvals.domain.request import Emergency
from audit.domain.subjects import SubjectKey
from gateway.domain.quotas import QuotaRule
from masking.domain.rules import MaskingRule
from masking.domain.subjects import SubjectColumns


class StaleSnapshot(RuntimeError):
    """The rules could not be refreshed in time; nothing runs until they are."""


@dataclass(frozen=True, slots=True)
class ConnectionSpec:
    """A configured upstream, without its credential. `settings` holds what only its kind knows."""

    name: str
    kind: str  # postgres | bigquery | …
    host: str = ""
    port: int = 0
    database: str = ""
    username: str = ""
    tls: str = "verify-full"  # disable | require | verify-full
    phi: bool = True
    recording: str = "masked-results"  # or metadata
    durability: str = "database"
    scan_text: bool = True  # value detectors over text no rule covers
    enabled: bool = True
    sealed_credential: bytes = field(default=b"", repr=False)  # opened only by the data plane
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    subjects: tuple[SubjectColumns, ...] = ()  # which stored columns hold whose number
    rules_digest: str = ""  # digest of every rule that can touch this connection


@dataclass(frozen=True, slots=True)
class AgentSpec:
    name: str
    groups: frozenset[str]
    owner: str
    enabled: bool = True
    revoked_before: float = 0.0  # tokens issued before this Unix time are refused
    expires_at: float | None = None  # Unix seconds; the registration ends then


@dataclass(frozen=True, slots=True)
class IssuerSpec:
    """A trusted OIDC issuer, pinned by its exact `iss`."""

    issuer: str
    jwks_uri: str
    audience: str
    algorithms: tuple[str, ...]
    kind: str = "agent"  # agent | person
    subject_claim: str = "sub"
    groups_claim: str = "groups"
    groups_map: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class PersonSpec:
    username: str
    groups: frozenset[str]
    enabled: bool = True
    revoked_before: float = 0.0
    oidc_subject: str = ""  # "<issuer>|<sub>" where another issuer vouches for the account


@dataclass(frozen=True, slots=True)
class Snapshot:
    version: int
    loaded_at: float  # monotonic seconds of the loading process
    connections: Mapping[str, ConnectionSpec]
    access_rules: tuple[AccessRule, ...]
    policies: tuple[PolicyRule, ...]
    masking_rules: tuple[MaskingRule, ...]
    agents: Mapping[str, AgentSpec]
    people: Mapping[str, PersonSpec]
    issuers: Mapping[str, IssuerSpec] = field(default_factory=lambda: MappingProxyType({}))  # by `iss`, enabled ones
    revoked_tokens: frozenset[str] = frozenset()  # jti
    vouched: Mapping[str, PersonSpec] = field(default_factory=lambda: MappingProxyType({}))  # by "<issuer>|<sub>"
    subject_key: SubjectKey | None = None  # of the tokens by which a patient's accounting is found
    emergencies: tuple[Emergency, ...] = ()  # those in force when it was loaded
    quotas: tuple[QuotaRule, ...] = ()
