"""The configuration as frozen values: what the snapshot (data plane) and identity (both planes) read.

Every function is one query. Nothing is cached here; `gateway.store` decides how old rules may be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from types import MappingProxyType

from django.contrib.auth.models import Group, User

from analysis.statement import Operation
from approvals.domain.decide import AccessRule
from gateway import models
from gateway.domain.quotas import LIMITS, QuotaRule
from gateway.domain.snapshot import AgentSpec, ConnectionSpec, IssuerSpec, PersonSpec
from gateway.domain.version import current_version
from masking.domain.subjects import SubjectColumns


def load_version() -> int:
    return current_version()


def load_connections() -> dict[str, ConnectionSpec]:
    rows = models.Connection.objects.select_related("credential")
    return {row.name: connection_spec(row) for row in rows}


def connection_spec(row: models.Connection) -> ConnectionSpec:
    """The row as the data plane has it; its credential stays sealed."""
    credential = getattr(row, "credential", None)
    return ConnectionSpec(
        name=row.name,
        kind=row.kind,
        host=row.host,
        port=row.port,
        database=row.database,
        username=row.username,
        tls=row.tls,
        phi=row.phi,
        recording=row.recording,
        durability=row.durability,
        scan_text=row.scan_text,
        enabled=row.enabled,
        sealed_credential=bytes(credential.sealed) if credential else b"",
        settings=MappingProxyType(dict(row.settings)),
        subjects=tuple(
            SubjectColumns(kind["name"], tuple(column.lower() for column in kind["columns"])) for kind in row.subjects
        ),
    )


def declared_subjects() -> frozenset[str]:
    """The kinds of subjects that any connection declares."""
    declared = models.Connection.objects.exclude(subjects=[]).values_list("subjects", flat=True)
    return frozenset(kind["name"] for subjects in declared for kind in subjects)


def load_access_rules() -> tuple[AccessRule, ...]:
    return tuple(
        AccessRule(
            name=row.name,
            groups=frozenset(row.groups),
            connections=tuple(row.connections),
            operations=frozenset(Operation(name) for name in row.operations),
        )
        for row in models.AccessRule.objects.all()
    )


def load_quotas() -> tuple[QuotaRule, ...]:
    return tuple(
        QuotaRule(
            name=row.name,
            agents=tuple(row.agents),
            connections=tuple(row.connections),
            **{limit: getattr(row, limit) for limit in LIMITS},
        )
        for row in models.Quota.objects.filter(enabled=True)
    )


def load_agents() -> dict[str, AgentSpec]:
    rows = models.Agent.objects.select_related("owner")
    return {row.name: agent_spec(row) for row in rows}


def agent_spec(row: models.Agent) -> AgentSpec:
    """An agent whose owner's account is switched off is switched off too: nobody answers for it."""
    return AgentSpec(
        name=row.name,
        groups=frozenset(row.groups),
        owner=row.owner.get_username(),
        enabled=row.enabled and row.owner.is_active,
        revoked_before=_seconds(row.revoked_before) or 0.0,
        expires_at=_seconds(row.expires_at),
    )


def load_people() -> dict[str, PersonSpec]:
    groups: dict[str, set[str]] = defaultdict(set)
    for username, group in Group.objects.filter(user__isnull=False).values_list("user__username", "name"):
        groups[username].add(group)
    rows = User.objects.values_list(
        "username", "is_active", "hoopweb_status__revoked_before", "hoopweb_status__oidc_subject"
    )
    return {
        username: PersonSpec(
            username=username,
            groups=frozenset(groups[username]),
            enabled=is_active,
            revoked_before=_seconds(revoked_before) or 0.0,
            oidc_subject=oidc_subject or "",
        )
        for username, is_active, revoked_before, oidc_subject in rows
    }


def vouched_people(people: Mapping[str, PersonSpec]) -> dict[str, PersonSpec]:
    """Accounts by the subject another issuer knows them by: its own tokens end with the account."""
    return {person.oidc_subject: person for person in people.values() if person.oidc_subject}


def load_issuers() -> dict[str, IssuerSpec]:
    return {
        row.issuer: IssuerSpec(
            issuer=row.issuer,
            jwks_uri=row.jwks_uri,
            audience=row.audience,
            algorithms=tuple(row.algorithms),
            kind=row.kind,
            subject_claim=row.subject_claim,
            groups_claim=row.groups_claim,
            groups_map=MappingProxyType(dict(row.groups_map)),
        )
        for row in models.Issuer.objects.filter(enabled=True)
    }


def load_revoked_tokens() -> frozenset[str]:
    """The `jti` of every token that was withdrawn.

    Of expired ones too, until they are forgotten: rules read while the clock was ahead outlive its correction.
    """
    return frozenset(models.RevokedToken.objects.values_list("jti", flat=True))


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """The part of a Snapshot that identity reads, for the control plane, which holds no Snapshot."""

    agents: dict[str, AgentSpec] = field(default_factory=dict)
    people: dict[str, PersonSpec] = field(default_factory=dict)
    issuers: dict[str, IssuerSpec] = field(default_factory=dict)
    revoked_tokens: frozenset[str] = frozenset()
    vouched: dict[str, PersonSpec] = field(default_factory=dict)


def load_identity_rules() -> IdentityRules:
    people = load_people()
    return IdentityRules(
        agents=load_agents(),
        people=people,
        issuers=load_issuers(),
        revoked_tokens=load_revoked_tokens(),
        vouched=vouched_people(people),
    )


def usable_connections(groups: frozenset[str]) -> dict[str, tuple[ConnectionSpec, frozenset[Operation]]]:
    """The enabled connections some access rule opens to one of `groups`, with the operations it opens."""
    rules = [rule for rule in load_access_rules() if rule.groups & groups]
    usable: dict[str, tuple[ConnectionSpec, frozenset[Operation]]] = {}
    for name, spec in load_connections().items():
        operations: frozenset[Operation] = frozenset().union(
            *(rule.operations for rule in rules if any(fnmatchcase(name, glob) for glob in rule.connections))
        )
        if spec.enabled and operations:
            usable[name] = (spec, operations)
    return usable


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
