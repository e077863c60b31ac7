"""In-memory doors for the pipeline: the same Protocols its real ones fulfil, with switches for failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType

from analysis.estimate import UNKNOWN, RowsExpected
from analysis.statement import Analysis, ColumnRef, Operation, Origin, Output, Statement, TableRef, Transform
from approvals.domain.decide import AccessRule, PolicyRule
from approvals.domain.request import AccessRequest, Binding, GrantClaim, Principal, RequireApproval
from audit.domain.entry import Answer, Entry, Receipt
from audit.domain.template import Filling, Template, Whole
from gateway.domain.snapshot import ConnectionSpec, Snapshot, StaleSnapshot
from gateway.session.context import SessionContext
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.services import Recollection, ReviewRefused, Services, UpstreamRejected
from gateway.session.transport import Denial, PendingReview, Resumption
from masking.domain.rules import MaskingRule, Technique

SSN = ColumnRef("public", "patients", "ssn")
CITY = ColumnRef("public", "patients", "city")


def analysed(text: str, *, column: ColumnRef = CITY, operation: Operation = Operation.READ) -> Analysis:
    """A complete analysis of a statement that returns one stored column."""
    return Analysis(
        statement=Statement(text),
        kind="SELECT" if operation is Operation.READ else "UPDATE",
        fingerprint="f",
        complete=True,
        operations=frozenset({operation}),
        tables_read=frozenset({TableRef("public", "patients")}),
        tables_written=frozenset() if operation is Operation.READ else frozenset({TableRef("public", "patients")}),
        reads=frozenset({column}),
        writes=frozenset() if operation is Operation.READ else frozenset({column}),
        outputs=(Output("value", (Origin(column, Transform.IDENTITY),)),),
    )


def snapshot(*, policies: tuple[PolicyRule, ...] = (), digest: str = "d1", version: int = 1) -> Snapshot:
    spec = ConnectionSpec(name="clinic", kind="postgres", phi=True, rules_digest=digest)
    access = AccessRule(
        groups=frozenset({"ai-agents"}),
        connections=("clinic",),
        operations=frozenset({Operation.READ, Operation.WRITE}),
        name="agents",
    )
    rule = MaskingRule(
        name="ssn", connections=("clinic",), columns=("public.patients.ssn",), technique=Technique.REDACT
    )
    return Snapshot(
        version=version,
        loaded_at=time.monotonic(),
        connections=MappingProxyType({"clinic": spec}),
        access_rules=(access,),
        policies=policies,
        masking_rules=(rule,),
        agents=MappingProxyType({}),
        people=MappingProxyType({}),
    )


@dataclass
class Rules:
    value: Snapshot = field(default_factory=snapshot)
    stale: bool = False

    def current(self) -> Snapshot:
        if self.stale:
            raise StaleSnapshot
        return self.value


@dataclass
class Recalled:
    """Asks every time."""

    holds: Callable[[], bool]
    shape: str = ""


@dataclass
class Analyst:
    answer: Callable[[str], Analysis] = analysed
    error: Exception | None = None
    remembers: bool = False
    remembered: dict[str, Analysis] = field(default_factory=dict)

    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        if self.error is not None:
            raise self.error
        found = self.remembered.get(statement.text) or self.answer(statement.text)
        if self.remembers:
            self.remembered[statement.text] = found
        return found

    expected: RowsExpected = UNKNOWN
    planned: asyncio.Event | None = None  # the planner answers once it is set

    async def expect(self, session: SessionContext, analysis: Analysis) -> RowsExpected:
        if self.planned is not None:
            await self.planned.wait()
        return self.expected

    async def prepared(self, session: SessionContext, identifier: str) -> int | None:
        return None

    def recall(self, session: SessionContext, text: str, parameter_types: tuple[int, ...]) -> Analysis | None:
        return self.remembered.get(text)

    def recollect(
        self, session: SessionContext, text: str, parameter_types: tuple[int, ...], found: Analysis
    ) -> Recollection | None:
        return Recalled(lambda: self.recall(session, text, parameter_types) is found)


@dataclass
class Desk:
    """Grants by binding statement; `decided` is what becomes of a review that is waited for."""

    grants: dict[str, GrantClaim] = field(default_factory=dict)
    decided: Callable[[Desk, Binding], None] | ReviewRefused | None = None
    full: bool = False
    opened: list[Binding] = field(default_factory=list)

    confirms: bool = True
    spent: list[GrantClaim] = field(default_factory=list)
    released: list[GrantClaim] = field(default_factory=list)
    counted: list[tuple[str, int | None]] = field(default_factory=list)
    masks: tuple[tuple[str, str, str], ...] = ()
    expected: RowsExpected | None = None  # what came with the last review

    async def claim(self, binding: Binding, statement_id: str, **_: object) -> GrantClaim | None:
        return self.grants.pop(binding.statement, None)

    def keep_inputs(self, request: AccessRequest, snapshot_version: int) -> str:
        return f"inputs of {request.analysis.kind}"

    emergencies: dict[str, GrantClaim] = field(default_factory=dict)

    async def claim_emergency(self, emergency_id: str, **_: object) -> GrantClaim | None:
        return self.emergencies.get(emergency_id)

    async def confirm(self, claim: GrantClaim, statement_id: str) -> bool:
        self.spent.append(claim)
        return self.confirms

    stood: bool = True
    lost: bool = False  # nobody can say

    async def stands(self, claim: GrantClaim) -> bool:
        if self.lost:
            raise OSError("no database")
        return self.stood

    async def release(self, claim: GrantClaim, statement_id: str) -> None:
        self.released.append(claim)

    def used(self, claim: GrantClaim, statement_id: str, rows: int | None) -> None:
        self.counted.append((claim.grant_id, rows))

    async def open(
        self,
        *,
        request: AccessRequest,
        binding: Binding,
        decision: RequireApproval,
        session: SessionContext,
        statement_id: str,
        masks: tuple[tuple[str, str, str], ...] = (),
        snapshot_version: int = 0,
        expected: RowsExpected = UNKNOWN,
    ) -> PendingReview:
        if self.full:
            raise ReviewRefused(code="too-many-pending", reason="others wait")
        self.opened.append(binding)
        self.masks = masks
        self.expected = expected
        return PendingReview(
            "r1", "http://web/reviews/r1/", time.time() + 60, decision.rule, decision.reason, statement_id
        )

    async def wait(self, review: PendingReview, gone: asyncio.Event) -> None:
        if isinstance(self.decided, ReviewRefused):
            raise self.decided
        if self.decided is not None:
            self.decided(self, self.opened[-1])


@dataclass
class Log:
    entries: list[Entry] = field(default_factory=list)
    broken: bool = False
    waits: bool = False  # every entry must be waited for
    meanwhile: Callable[[], None] | None = None  # what happens while an authorised entry is waited for

    async def append(self, entry: Entry) -> Receipt:
        if self.broken:
            raise OSError("no space left")
        if self.meanwhile is not None and entry.kind == "statement.authorised":
            self.meanwhile()
        self.entries.append(entry)
        return Receipt(seq=len(self.entries), durability="database")

    def append_now(self, entry: Entry) -> Receipt | None:
        if self.waits:
            return None
        if self.broken:
            raise OSError("no space left")
        self.entries.append(entry)
        return Receipt(seq=None, durability="os")

    def append_like(self, template: Template, filling: Filling, whole: Whole) -> Receipt | None:
        return None  # every entry is kept whole here

    def append_soon(self, template: Template, filling: Filling, whole: Whole, answer: Answer) -> None:
        raise OSError("not here")

    def append_like_later(self, template: Template, filling: Filling, whole: Whole) -> bool:
        return False

    def append_later(self, entry: Entry) -> None:
        self.entries.append(entry)

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.entries]


@dataclass
class Client:
    """A transport that remembers what it was told. Executing completes the permit at once."""

    takes_modified: bool = True
    denials: list[Denial] = field(default_factory=list)
    pending: list[PendingReview] = field(default_factory=list)
    resumed: list[Resumption] = field(default_factory=list)
    executed: list[ExecutionPermit] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def send_denied(self, denial: Denial) -> None:
        self.denials.append(denial)

    async def send_pending(self, review: PendingReview) -> None:
        self.pending.append(review)

    async def send_resumed(self, resumption: Resumption) -> None:
        self.resumed.append(resumption)

    def may_run_modified(self, permit_text: str) -> bool:
        return self.takes_modified

    async def execute(self, permit: ExecutionPermit) -> None:
        permit.consume()
        self.executed.append(permit)
        permit.complete(Outcome(status="completed", rows=1))


@dataclass
class World:
    """All doors of one pipeline, a session and a client."""

    rules: Rules = field(default_factory=Rules)
    analyst: Analyst = field(default_factory=Analyst)
    desk: Desk = field(default_factory=Desk)
    log: Log = field(default_factory=Log)
    client: Client = field(default_factory=Client)
    groups: frozenset[str] = frozenset({"ai-agents"})

    @property
    def services(self) -> Services:
        return Services(snapshots=self.rules, analysts={"postgres": self.analyst}, reviews=self.desk, record=self.log)

    @property
    def session(self) -> SessionContext:
        principal = Principal(subject="demo-agent", issuer="http://web", groups=self.groups, owner="admin")
        spec = self.rules.value.connections["clinic"]
        return SessionContext(principal=principal, connection=spec, protocol="postgres")


def granted(text: str, *, modified_from: str | None = None) -> GrantClaim:
    return GrantClaim(
        grant_id="g1",
        review_id="r1",
        approvers=("reviewer",),
        reason="for the audit",
        statement=text,
        modified_from=modified_from,
    )


__all__ = [
    "SSN",
    "Analyst",
    "Client",
    "Desk",
    "Log",
    "ReviewRefused",
    "UpstreamRejected",
    "World",
    "analysed",
    "granted",
]
