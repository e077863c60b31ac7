"""The decision's question and its possible answers (XACML words, NIST SP 800-207 roles). Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.making import quickly_made
from analysis.statement import Analysis
from analysis.touch import ProtectedTouch

__all__ = [
    "AccessRequest",
    "Allow",
    "Binding",
    "Decision",
    "Deny",
    "Emergency",
    "GrantClaim",
    "GrantTerms",
    "Principal",
    "ProtectedTouch",
    "RequireApproval",
    "Resource",
    "ReviewerGroup",
]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `subject` is the agent or the person; `actor` is set when one acts for the other (RFC 8693 `act`)."""

    subject: str
    issuer: str
    groups: frozenset[str]
    kind: str = "agent"  # agent | person
    actor: str | None = None  # the software acting for `subject`, when `subject` is a person
    owner: str | None = None  # the human answerable for an agent; may never approve for it
    token_id: str = ""  # jti or ticket id, never the token
    auth_method: str = ""  # oidc | ticket | client-certificate
    expires_at: float | None = None  # Unix seconds; the session ends then
    issued_at: float | None = None  # Unix seconds; tokens from before a revocation end
    # Of a person an agent acts for: `groups` are those both are in, these those either is in. Rules that restrict
    # either must not be escaped by being two.
    either_groups: frozenset[str] = frozenset()
    authenticated_at: float | None = None  # Unix seconds; when the person last proved who they are, where it is known
    # Whatever else the issuer calls this person (mail address, login): an account of any such name is theirs.
    known_as: frozenset[str] = frozenset()
    # The ids of the tokens this one was exchanged for: revoking any of them ends it.
    derived_from: frozenset[str] = frozenset()

    @property
    def humans(self) -> frozenset[str]:
        """Every account that must not decide on this principal's requests."""
        return self.known_as | {name for name in (self.subject, self.actor, self.owner) if name}


@quickly_made
@dataclass(frozen=True, slots=True)
class Resource:
    """The connection, by value."""

    connection: str
    kind: str
    phi: bool


@quickly_made
@dataclass(frozen=True, slots=True)
class AccessRequest:
    """One statement of one principal on one resource, at a moment."""

    principal: Principal
    resource: Resource
    analysis: Analysis
    touch: ProtectedTouch
    at: float  # Unix seconds


@quickly_made
@dataclass(frozen=True, slots=True)
class Allow:
    """`rule` names the access rule that allowed it."""

    rule: str
    policies: tuple[str, ...] = ()  # the policy that spoke, as name@version
    row_cap: int | None = None  # more rows than this were not allowed: few were expected, on an estimate alone


@dataclass(frozen=True, slots=True)
class ReviewerGroup:
    """So many people of a group. Groups of one non-empty `choice` are alternatives: one of them is enough.

    Once nobody decided in time (`escalate_before_s`), members of `stand_ins` count for the group as well: the number of
    people stays.
    """

    group: str
    quorum: int = 1
    choice: str = ""
    stand_ins: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ReviewerGroup:
        """The group that `asdict` made a JSON document of; older documents lack what came later."""
        return cls(**{**document, "stand_ins": tuple(document.get("stand_ins", ()))})


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """How far an approval may reach. `scopes`: once, shape, tables, connection (see approvals.domain.scope)."""

    scopes: tuple[str, ...] = ("once",)
    for_s: int = 3600  # longest life of a wider grant
    max_uses: int = 100  # executions under one grant that is wider than once, or has a grace period
    max_rows: int | None = None  # rows returned or changed under one grant, None: not counted against anything
    grace_s: int = 0  # after its first execution the same request may run again for so long without asking


@dataclass(frozen=True, slots=True)
class RequireApproval:
    rule: str
    reason: str
    reviewers: tuple[ReviewerGroup, ...]
    decide_within_s: int = 3600
    execute_within_s: int = 600
    permitted_alternative: str = ""
    policies: tuple[str, ...] = ()  # every policy that asks, as name@version
    authors: tuple[str, ...] = ()  # who wrote them; they alone cannot approve (separation of duties)
    escalate_to: tuple[str, ...] = ()  # the stand-ins of all `reviewers`: told when nobody decides, and then decide
    escalate_before_s: int = 0  # so long before the time to decide is over; 0: in its last quarter
    terms: GrantTerms = field(default_factory=GrantTerms)


@dataclass(frozen=True, slots=True)
class Deny:
    """`code` is stable and machine-readable; `reason` and `permitted_alternative` are sentences without literals."""

    code: str
    rule: str
    reason: str
    permitted_alternative: str = ""
    policies: tuple[str, ...] = ()  # the policy that spoke, as name@version


Decision = Allow | RequireApproval | Deny


@dataclass(frozen=True, slots=True)
class Binding:
    """Everything an approval is good for; any difference is another request.

    `digest` of these fields (see `approvals.domain.grant`) is what a Grant is found by. `rules` is the digest of the
    access, masking and policy rules that touch the connection, so a changed rule voids what was approved under it.
    """

    principal_subject: str
    principal_issuer: str
    principal_actor: str | None
    connection: str
    statement: str
    parameters: tuple[bytes | None, ...] = ()
    parameter_types: tuple[int, ...] = ()
    parameter_formats: tuple[int, ...] = ()
    role: str = ""
    search_path: str = ""
    settings: str = ""  # of the session, where they change how literals are read (DateStyle, TimeZone …)
    rules: str = ""
    governed_as: str = ""  # what FETCH c, EXECUTE p … stood for when it was asked
    meaning: str = ""  # what it does, with its names resolved (`approvals.domain.facts.meaning_of`)


@dataclass(frozen=True, slots=True)
class Emergency:
    """An emergency access in force: who broke the glass, for which connection, until when (Unix seconds)."""

    id: str
    person: str
    connection: str
    ends_at: float
    agent: str = ""  # through which agent; empty: the person themselves
    issuer: str = ""  # who vouches for the person; empty: this product


@dataclass(frozen=True, slots=True)
class GrantClaim:
    """An approval consumed for one execution: who approved, why, under which review; or an emergency in its place."""

    grant_id: str
    review_id: str
    approvers: tuple[str, ...]
    reason: str
    statement: str  # the approved text; differs from the asked text after *modify*
    modified_from: str | None = None
    meaning: str = ""  # what the reviewer's text means; empty unless it is another one than was asked
    emergency: str = ""  # id of the emergency access it runs under; then there is no review and nobody approved
    lifts_masks: bool = False
    extra: dict[str, str] = field(default_factory=dict)
