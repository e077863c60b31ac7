"""What a wire must be able to do for the pipeline. Protocols supply wording and framing, never a decision."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Protocol

from gateway.session.permit import ExecutionPermit


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a statement did not run, for people and machines. Never SQL text, values or a traceback."""

    code: str  # stable: access-denied, policy-denied, incomplete-analysis, review-denied, review-expired, …
    reason: str
    session_id: str
    statement_id: str
    rule: str = ""
    permitted_alternative: str = ""
    review_url: str = ""
    sqlstate: str = "42501"  # for SQL wires; a statement the database itself refused keeps its own
    position: int = 0  # 1-based character in the statement, 0 unknown
    permitted_statement: str = ""  # a text that would be allowed now; the client's own literals: never recorded
    retry_after_s: int = 0  # when the same statement may be sent again; 0: not a matter of time

    def as_problem(self) -> dict[str, str | int]:
        """The members of an RFC 9457 problem document beyond type, title and status."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PendingReview:
    """A statement that waits for people. `expires_at` in Unix seconds. `url` locates; it does not authorise."""

    review_id: str
    url: str
    expires_at: float
    rule: str
    reason: str
    statement_id: str
    permitted_statement: str = ""  # what would be allowed without anybody; for the client alone


@dataclass(frozen=True, slots=True)
class Resumption:
    """A held statement goes on. `statement` differs from what was asked when the reviewer modified it."""

    review_id: str
    approvers: tuple[str, ...]
    reason: str
    statement: str
    modified_from: str | None = None


class Transport(Protocol):
    """One client waiting for one statement."""

    async def send_denied(self, denial: Denial) -> None: ...

    async def send_pending(self, review: PendingReview) -> None:
        """Tell the client where the review is. It may be told more than once."""

    async def send_resumed(self, resumption: Resumption) -> None: ...

    def may_run_modified(self, permit_text: str) -> bool:
        """Whether this wire can run another text than the asked one (a bound portal cannot)."""

    async def execute(self, permit: ExecutionPermit) -> None:
        """Send `permit.statement` upstream and stream the masked answer.

        Returns once the statement is forwarded (pipelining wires) or finished (others); either way
        `permit.complete` is called exactly once, with what happened.
        """

    @property
    def gone(self) -> asyncio.Event:
        """Set when the client left or cancelled: a held statement is then withdrawn."""
