"""The pipeline's doors to the world, as small Protocols: rules, analysis, reviews, record.

`gateway.runtime` wires the real ones; nothing in the pipeline knows the ORM, a socket or a clock of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from analysis.estimate import UNKNOWN, RowsExpected
from analysis.statement import Analysis, Statement
from approvals.domain.request import AccessRequest, Binding, Decision, GrantClaim, Principal, RequireApproval
from audit.domain.entry import Answer, Entry, Receipt
from audit.domain.template import Filling, Template, Whole
from gateway.domain.snapshot import Snapshot
from gateway.session import entries
from gateway.session.context import SessionContext
from gateway.session.meter import Meter
from gateway.session.quotas import Quotas
from gateway.session.transport import PendingReview
from masking.domain.inherit import Inherited

Masks = tuple[tuple[str, str, str], ...]  # (column, technique, rule) of a result


class ReviewRefused(Exception):
    """A review ended without a grant, or was not opened.

    `code`: review-denied, review-expired, review-withdrawn or too-many-pending.
    """

    def __init__(self, *, code: str, reason: str, rule: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.rule = rule


class UpstreamRejected(Exception):
    """The database's own reading refused the statement (syntax, unknown relation …).

    `sqlstate` and `position` (1-based character, 0 unknown) are the database's; `message` is already free of values.
    """

    def __init__(self, *, sqlstate: str, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.position = position


class AuthenticationFailed(Exception):
    """The client is nobody we know. `reason` goes to the log and the record; the client hears one uniform sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Authenticator(Protocol):
    async def authenticate(
        self, *, user: str, secret: str, connection: str, client_address: str, tls: str
    ) -> Principal:
        """Exchange a token or ticket presented as `user`'s password for a Principal; raise AuthenticationFailed."""


class Snapshots(Protocol):
    def current(self) -> Snapshot:
        """The newest rules; raises StaleSnapshot past the maximum age."""


@dataclass(frozen=True, slots=True)
class TableDescription:
    """A table or view as the database's catalogue has it; `columns` are (name, type) in order."""

    schema: str
    name: str
    kind: str  # table | view
    columns: tuple[tuple[str, str], ...]


class Recollection(Protocol):
    """One remembered analysis, asked with one look whether `recall` would still return it."""

    @property
    def shape(self) -> str:
        """It is about every text with this `skeleton`; "" when only about the very text."""

    def holds(self) -> bool: ...


class Analyst(Protocol):
    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        """Both readings, compared. Never raises on bad SQL but UpstreamRejected; cached per shape."""

    def recall(self, session: SessionContext, text: str, parameter_types: tuple[int, ...]) -> Analysis | None:
        """What `analyse` would answer from memory now: the same object while it holds, None when it must look."""

    async def expect(self, session: SessionContext, analysis: Analysis) -> RowsExpected:
        """How many rows the database expects a held statement to return and change; counts only, and nothing runs."""

    def recollect(
        self, session: SessionContext, text: str, parameter_types: tuple[int, ...], found: Analysis
    ) -> Recollection | None:
        """What tells for as long as the session lives whether `recall` would return `found`, as it just did."""

    async def prepared(self, session: SessionContext, identifier: str) -> int | None:
        """The number of the transaction that is prepared under `identifier` now; None: none, or nobody can say."""

    async def tables(self, session: SessionContext) -> Sequence[TableDescription]:
        """Every table and view of users, sorted by name. Raises UpstreamRejected when the database does not say."""


class ReviewDesk(Protocol):
    async def claim(
        self,
        binding: Binding,
        statement_id: str,
        *,
        session_id: str,
        request: AccessRequest,
        decision: RequireApproval,
        expected: RowsExpected = UNKNOWN,
    ) -> GrantClaim | None:
        """Consume a grant for exactly this binding, or a wider one that covers the request; None without one."""

    async def confirm(self, claim: GrantClaim, statement_id: str) -> bool:
        """Spend the claim for good, right before the execution is recorded; False when it was taken back meanwhile."""

    async def stands(self, claim: GrantClaim) -> bool:
        """Whether a spent claim still counts: its approval was not revoked, its emergency access goes on."""

    async def release(self, claim: GrantClaim, statement_id: str) -> None:
        """Give a claim back under which nothing ran."""

    async def claim_emergency(
        self, emergency_id: str, *, request: AccessRequest, decision: Decision, statement_id: str, session_id: str
    ) -> GrantClaim | None:
        """Count one statement under an emergency access; None when it is over or used up."""

    def keep_inputs(self, request: AccessRequest, snapshot_version: int) -> str:
        """Return the digest that names what a decision is made of, and have it kept. Returns at once."""

    def used(self, claim: GrantClaim, statement_id: str, rows: int | None) -> None:
        """The execution ended: count its rows, None where nobody can tell how many. Returns at once."""

    async def open(
        self,
        *,
        request: AccessRequest,
        binding: Binding,
        decision: RequireApproval,
        session: SessionContext,
        statement_id: str,
        masks: Masks = (),
        snapshot_version: int = 0,
        expected: RowsExpected = UNKNOWN,
    ) -> PendingReview:
        """Create the review (or return the pending one of the same binding) and notify its reviewers."""

    async def wait(self, review: PendingReview, gone: asyncio.Event) -> None:
        """Return when the review left a grant; raise ReviewRefused when it ended otherwise or `gone` was set."""


class InheritanceUnavailable(Exception):
    """It cannot be made sure that every gateway masks what the statement would leave."""


class Inheritance(Protocol):
    async def keep(self, *, inherited: Mapping[str, Sequence[Inherited]], statement_id: str) -> None:
        """Return when the columns of each connection are protected durably and on every gateway.

        Raises InheritanceUnavailable.
        """


class Record(Protocol):
    async def append(self, entry: Entry) -> Receipt:
        """Return when the entry is durable; raise when it is not. No receipt, no execution."""

    def append_now(self, entry: Entry) -> Receipt | None:
        """Make the entry durable before returning, where its durability allows that without waiting; else None."""

    def append_like(self, template: Template, filling: Filling, whole: Whole) -> Receipt | None:
        """`append_now` of the entry that `whole` would spell, one of many alike."""

    def append_soon(self, template: Template, filling: Filling, whole: Whole, answer: Answer) -> None:
        """`append` of an entry that is one of many alike, answered by a call in a later turn of the event loop."""

    def append_like_later(self, template: Template, filling: Filling, whole: Whole) -> bool:
        """`append_later` of an entry that is one of many alike, where it is kept at once; False: it is not kept."""

    def append_later(self, entry: Entry) -> None:
        """Ride on the next batch; a failure stops new statements."""


class PreparedTransactions(Protocol):
    """What sessions of a principal prepared over a connection, by the database's own number. Never raises."""

    async def keep(self, session: SessionContext, identifier: str, transaction: int) -> bool:
        """`transaction` is about to be prepared under `identifier`. False: nobody will know, so it must not be."""

    async def known(self, session: SessionContext, identifier: str, transaction: int) -> bool:
        """Whether it was to be prepared under it."""

    async def forget(self, session: SessionContext, identifier: str, transaction: int) -> None:
        """It was not prepared after all, or has been ended."""


class Results(Protocol):
    """Where masked results are recorded."""

    @property
    def healthy(self) -> bool:
        """Whether they can be, as far as is known."""

    def when_stored(self, told: Callable[[], None]) -> None:
        """Call `told` once all that was recorded so far is stored; never, where the process ends before that."""


@dataclass(frozen=True, slots=True)
class Services:
    snapshots: Snapshots
    analysts: dict[str, Analyst]  # by connection kind
    reviews: ReviewDesk
    record: Record
    inheritance: Inheritance | None = None  # without one, no protected value goes into a column without a rule
    prepared: PreparedTransactions | None = None  # without it, a prepared transaction is its session's alone
    quotas: Quotas | None = None  # without one, whoever a quota names is refused
    results: Results | None = None  # without it none are recorded
    meter: Meter = field(default_factory=Meter)

    def can_keep(self, session: SessionContext, analysis: Analysis) -> bool:
        """Whether what it returns can be recorded, where it has to be."""
        returns = analysis.outputs is not None
        return not returns or not session.records_results or self.results is None or self.results.healthy

    def session_ended(self, session: SessionContext, reason: str) -> None:
        """Record its end, once its results are stored: those that a killed process lost are looked for in open ones."""
        closed = entries.session_closed(session, reason)
        if self.results is None or not session.records_results:
            self.record.append_later(closed)
        else:
            self.results.when_stored(lambda: self.record.append_later(closed))
