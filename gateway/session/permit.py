"""The proof that a statement went through the pipeline: no permit, no upstream call.

Only `mint_permit` makes one, only the pipeline calls it (an import contract and a test hold that), and an upstream
consumes it once. The permit carries what must happen to the result: the masking plan is built from it and nowhere
else, so a wire cannot forget to mask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from analysis.making import quickly_made
from analysis.statement import Analysis, Operation
from approvals.domain.request import Allow, Decision, GrantClaim
from audit.domain.subjects import SubjectKey, SubjectsSeen
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.subjects import SubjectCollector
from masking.domain.field import MaskingPlan, ResultColumn

_MINT = object()


class PermitError(RuntimeError):
    """A permit was forged, used twice or completed twice: a bug, answered by ending the session."""


@quickly_made
@dataclass(frozen=True, slots=True)
class FieldCount:
    """How many values of one result column were masked, by which rule and technique."""

    column: str
    rule: str
    technique: str
    count: int


@quickly_made
@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an execution. `error` is an SQLSTATE or a stable word, never a message."""

    status: str  # completed | failed | cancelled | unfinished | skipped
    rows: int = 0
    bytes: int = 0
    masked: tuple[FieldCount, ...] = ()
    error: str = ""
    recording: str = ""  # digest of the recorded masked result
    command_tag: str = ""
    subjects: SubjectsSeen | None = None  # whose records it showed; None when it was about nobody
    bytes_processed: int | None = None  # what the service read for it, where it says so: the cost
    untold: bool = False  # the service did not say how many rows it changed

    @property
    def rows_moved(self) -> int:
        """Rows returned or, by the command tag, changed, whichever are more: what an approval's cap counts."""
        changed = _CHANGED.fullmatch(self.command_tag)
        return max(self.rows, int(changed[1])) if changed else self.rows


# The tags of commands that change rows (PostgreSQL protocol, CommandComplete); only INSERT's has an OID before them.
_CHANGED = re.compile(r"(?:INSERT \d+|UPDATE|DELETE|MERGE|COPY) (\d{1,18})", re.ASCII)


def rows_counted(analysis: Analysis, outcome: Outcome) -> int | None:
    """Rows an execution returned or changed, as far as an approval's cap is concerned; None where nobody can tell."""
    changes = not analysis.operations <= {Operation.READ, Operation.SESSION}
    lost = changes and (outcome.status == "unfinished" or outcome.untold)
    doubtful = not analysis.complete or bool(analysis.opaque_functions)
    return None if analysis.facts.uncounted or doubtful or lost else outcome.rows_moved


@dataclass(frozen=True, slots=True)
class SubjectWatch:
    """What an execution needs to note whose records it shows. `note` takes a portion of a large result."""

    about: tuple[str, ...]
    key: SubjectKey | None
    note: Callable[[ExecutionPermit, SubjectsSeen], None]


@dataclass(slots=True)
class ExecutionPermit:
    """Consumed once (`consume`), finished once (`complete`)."""

    session: SessionContext
    request: StatementRequest  # the text and values that may run, exactly
    analysis: Analysis
    decision: Decision
    snapshot_version: int
    plan_for: Callable[[Sequence[ResultColumn]], MaskingPlan]
    on_complete: Callable[[ExecutionPermit, Outcome], None]
    still_masks: Callable[[Sequence[ResultColumn], MaskingPlan], bool] | None = None  # asked when the first rows come
    still_allowed: Callable[[], bool] | None = None  # asked when the rules changed
    claim: GrantClaim | None = None
    records_results: bool = True
    subjects: SubjectWatch | None = None  # None where nobody's records can be met
    _mint: object = field(default=None, repr=False)
    _consumed: bool = False
    _completed: bool = False

    def __post_init__(self) -> None:
        if self._mint is not _MINT:
            raise PermitError("a permit can only be minted by the pipeline")

    @property
    def statement(self) -> str:
        return self.request.text

    @property
    def row_cap(self) -> int | None:
        """After how many rows the result must stop: few were expected, and nobody reviewed more."""
        return self.decision.row_cap if isinstance(self.decision, Allow) else None

    def consume(self) -> StatementRequest:
        """Return what may be sent upstream. A second call raises."""
        if self._consumed:
            raise PermitError("a permit was presented twice")
        self._consumed = True
        return self.request

    def watch(self, plan: MaskingPlan) -> SubjectCollector | None:
        """What notes the subjects of a result with this plan; None when it is about nobody."""
        watch = self.subjects
        if watch is None or plan.subjects is None:
            return None
        return SubjectCollector(plan.subjects, key=watch.key, flush=lambda seen: watch.note(self, seen))

    def complete(self, outcome: Outcome) -> None:
        if self._completed:
            raise PermitError("an execution was completed twice")
        self._completed = True
        self.on_complete(self, outcome)


def mint_permit(
    *,
    session: SessionContext,
    request: StatementRequest,
    analysis: Analysis,
    decision: Decision,
    snapshot_version: int,
    plan_for: Callable[[Sequence[ResultColumn]], MaskingPlan],
    on_complete: Callable[[ExecutionPermit, Outcome], None],
    claim: GrantClaim | None,
    subjects: SubjectWatch | None = None,
    still_masks: Callable[[Sequence[ResultColumn], MaskingPlan], bool] | None = None,
    still_allowed: Callable[[], bool] | None = None,
) -> ExecutionPermit:
    """Called by `gateway.session.minting` alone, after the authorised entry is durable."""
    return ExecutionPermit(
        session=session,
        request=request,
        analysis=analysis,
        decision=decision,
        snapshot_version=snapshot_version,
        plan_for=plan_for,
        on_complete=on_complete,
        still_masks=still_masks,
        still_allowed=still_allowed,
        claim=claim,
        records_results=session.records_results,
        subjects=subjects,
        _mint=_MINT,
    )
