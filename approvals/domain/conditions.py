"""Conditions over one request, in three values: yes, no, and not known.

A policy must never be escaped by being hard to read. So every part answers `True`, `False` or `None` (Kleene's strong
logic: `not unknown` is unknown, `unknown and no` is no), and whoever asks decides what unknown means: for a rule that
restricts it counts as yes, for a rule that permits as no. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from analysis.estimate import SYSTEM_SCHEMAS
from analysis.statement import Analysis, Operation
from analysis.utility_definition import MAKES_A_RELATION
from approvals.domain.request import AccessRequest

Truth = bool | None

# Operations that can return or change rows at all: a BEGIN is never "bulk".
_MOVES_ROWS = frozenset({Operation.READ, Operation.WRITE, Operation.ADMIN})


@dataclass(frozen=True, slots=True)
class Hours:
    """A daily window in a named zone, `start` included, `end` excluded; minutes since midnight. May pass midnight.

    `days` are ISO weekdays (1 Monday … 7 Sunday) of the moment itself; all days when empty.
    """

    start: int
    end: int
    zone: str = "UTC"
    days: frozenset[int] = frozenset()

    def contain(self, at: float) -> bool:
        local = datetime.fromtimestamp(at, ZoneInfo(self.zone))
        if self.days and local.isoweekday() not in self.days:
            return False
        minute = local.hour * 60 + local.minute
        if self.start <= self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


@dataclass(frozen=True, slots=True)
class Condition:
    """All given parts must hold; an absent (None) part is not asked. Unknown facts count as the dangerous value."""

    operation: frozenset[Operation] | None = None
    touches_phi: bool | None = None
    tables: tuple[str, ...] | None = None  # globs over schema.table, read or written
    columns: tuple[str, ...] | None = None  # globs over schema.table.column
    classes: frozenset[str] | None = None
    no_where: bool | None = None
    export: bool | None = None
    rows_over: int | None = None  # true when rows are not known to be at most this many
    incomplete: bool | None = None
    inference: bool | None = None  # a guarded or strict rule's predicate limits are exceeded
    risk_at_least: int | None = None
    principals: tuple[str, ...] | None = None  # globs over subjects
    groups: frozenset[str] | None = None
    kinds: tuple[str, ...] | None = None  # globs over the statement's kind, e.g. COPY_*
    functions: tuple[str, ...] | None = None  # globs over functions called
    bytes_over: int | None = None  # true when bytes are not known to be at most this many
    hours: Hours | None = None
    all_of: tuple[Condition, ...] | None = None
    any_of: tuple[Condition, ...] | None = None
    none_of: tuple[Condition, ...] | None = None

    def asks_for(self, part: str) -> bool:
        """Whether `part: true` is asked here or below, outside any negation."""
        below = (self.all_of or ()) + (self.any_of or ())
        return getattr(self, part) is True or any(child.asks_for(part) for child in below)

    @property
    def depends_on_moment(self) -> bool:
        """Whether the same request may be answered otherwise later, under the same rules: then nobody remembers it."""
        below = (self.all_of or ()) + (self.any_of or ()) + (self.none_of or ())
        return self.hours is not None or any(child.depends_on_moment for child in below)


def evaluate(condition: Condition, request: AccessRequest) -> Truth:
    """Return whether the condition holds for the request: True, False, or None where the facts do not say."""
    return _all(
        _PARTS[part.name](asked, request)
        for part in fields(condition)
        if (asked := getattr(condition, part.name)) is not None
    )


def is_doubtful(request: AccessRequest) -> bool:
    """Whether the analysis may have missed what the statement reads or writes."""
    analysis = request.analysis
    return not analysis.complete or bool(analysis.opaque_functions) or makes_of_protected(request)


def makes_of_protected(request: AccessRequest) -> bool:
    """Whether a permanent relation is made over protected columns: read to the end, and still for people to decide."""
    analysis = request.analysis
    makes = request.resource.kind == "postgres" and analysis.kind in MAKES_A_RELATION
    return makes and Operation.DDL in analysis.operations and bool(request.touch.columns_read)


def _all(truths: Iterable[Truth]) -> Truth:
    answer: Truth = True
    for truth in truths:
        if truth is False:
            return False
        if truth is None:
            answer = None
    return answer


def _any(truths: Iterable[Truth]) -> Truth:
    return _not(_all(_not(truth) for truth in truths))


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _found(found: bool, request: AccessRequest) -> Truth:
    """What was seen is certain; what was not seen is certain only in a complete analysis."""
    return True if found else None if is_doubtful(request) else False


def _same(asked: bool, truth: Truth) -> Truth:
    return truth if asked else _not(truth)


def _globs(globs: Iterable[str], names: Iterable[str]) -> bool:
    known = tuple(names)
    return any(fnmatchcase(name, glob) for glob in globs for name in known)


def _operation(asked: frozenset[Operation], request: AccessRequest) -> Truth:
    known = request.analysis.operations
    if asked & known:
        return True
    # Both readings name the command itself even where they lose track of what it touches; without a name anything
    # is possible.
    return False if known else None


def _touches_phi(asked: bool, request: AccessRequest) -> Truth:
    return _same(asked, _found(request.touch.touches_phi, request))


def _tables(asked: tuple[str, ...], request: AccessRequest) -> Truth:
    analysis = request.analysis
    return _found(_globs(asked, map(str, analysis.tables_read | analysis.tables_written)), request)


def _columns(asked: tuple[str, ...], request: AccessRequest) -> Truth:
    analysis, touch = request.analysis, request.touch
    touched = analysis.reads | analysis.writes | touch.columns_read | touch.columns_written | touch.columns_returned
    return _found(_globs(asked, map(str, touched)), request)


def _classes(asked: frozenset[str], request: AccessRequest) -> Truth:
    return _found(_globs(asked, request.touch.classes), request)


def _rows_over(limit: int, request: AccessRequest) -> Truth:
    analysis = request.analysis
    if analysis.operations and not analysis.operations & _MOVES_ROWS:
        return False
    if is_doubtful(request):
        return None
    facts = analysis.facts
    if _is_few_by_proof(limit, analysis):
        return False
    if request.touch.inference_violations:
        # The estimate rests on statistics of the very values the statement asks about, and the decision would pass the
        # answer on (few or many of them): it is not believed here.
        return True
    if facts.collects:
        # Rows that are collected into one cannot be counted as they pass: nothing would hold the statement to an
        # estimate (see `row_cap`), and the planner can be made to expect few.
        return True
    return True if facts.estimated_rows is None else facts.estimated_rows > limit


def _is_few_by_proof(limit: int, analysis: Analysis) -> bool:
    facts = analysis.facts
    if facts.aggregated or (facts.row_bound is not None and facts.row_bound <= limit):
        return True
    # The catalogue's rows are nobody's records.
    tables = analysis.tables_read
    return bool(tables) and all(table.schema in SYSTEM_SCHEMAS for table in tables)


def row_cap(conditions: Iterable[Condition], request: AccessRequest) -> int | None:
    """Return after how many rows a statement must stop that passed these conditions on an estimate alone.

    The planner can be wrong, and can be made to be wrong (`id * 2 > 0`, `BETWEEN $1 AND $2`): a condition that would
    hold if the estimate were not believed still limits what the statement may return.
    """
    facts = request.analysis.facts
    if facts.estimated_rows is None:
        return None
    doubting = replace(request, analysis=replace(request.analysis, facts=replace(facts, estimated_rows=None)))
    limits = [
        limit
        for condition in conditions
        if evaluate(condition, request) is False and evaluate(condition, doubting) is not False
        for limit in _row_limits(condition)
    ]
    return min(limits, default=None)


def _row_limits(condition: Condition) -> Iterator[int]:
    if condition.rows_over is not None:
        yield condition.rows_over
    for below in (condition.all_of or ()) + (condition.any_of or ()) + (condition.none_of or ()):
        yield from _row_limits(below)


def _bytes_over(limit: int, request: AccessRequest) -> Truth:
    known = request.analysis.facts.estimated_bytes
    return True if known is None else known > limit


def _inference(asked: bool, request: AccessRequest) -> Truth:
    return _same(asked, _found(bool(request.touch.inference_violations), request))


def _principals(asked: tuple[str, ...], request: AccessRequest) -> Truth:
    """Of a person an agent acts for, either may be named: that is not known to be meant, and so counts as dangerous."""
    names = [name for name in (request.principal.subject, request.principal.actor) if name]
    return _of_both([_globs(asked, [name]) for name in names])


def _groups(asked: frozenset[str], request: AccessRequest) -> Truth:
    principal = request.principal
    if asked & principal.groups:
        return True
    return None if asked & principal.either_groups else False


def _of_both(found: list[bool]) -> Truth:
    return True if all(found) else None if any(found) else False


def _functions(asked: tuple[str, ...], request: AccessRequest) -> Truth:
    analysis = request.analysis
    return _found(_globs(asked, analysis.functions | analysis.opaque_functions), request)


# One entry per part of a Condition; a part without an evaluator cannot be loaded (tests hold the two equal).
_PARTS: dict[str, Callable[..., Truth]] = {
    "operation": _operation,
    "touches_phi": _touches_phi,
    "tables": _tables,
    "columns": _columns,
    "classes": _classes,
    "no_where": lambda asked, request: asked == request.analysis.facts.no_where,
    "export": lambda asked, request: asked == request.analysis.facts.export,
    "rows_over": _rows_over,
    "incomplete": lambda asked, request: asked == is_doubtful(request),
    "inference": _inference,
    "risk_at_least": lambda asked, request: request.analysis.risk_score >= asked,
    "principals": _principals,
    "groups": _groups,
    "kinds": lambda asked, request: _globs(asked, [request.analysis.kind]),
    "functions": _functions,
    "bytes_over": _bytes_over,
    "hours": lambda asked, request: asked.contain(request.at),
    "all_of": lambda asked, request: _all(evaluate(child, request) for child in asked),
    "any_of": lambda asked, request: _any(evaluate(child, request) for child in asked),
    "none_of": lambda asked, request: _not(_any(evaluate(child, request) for child in asked)),
}
