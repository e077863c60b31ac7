"""A draft policy over recorded traffic: which decisions would have been others, had it been in force.

Every recorded statement names the inputs of its decision. Both sets of rules, today's and the draft's, decide each
distinct input once (once a minute, where a condition asks for the time of day), with the very function that enforces
them, so what is shown is what enforcing would do. Rights and masking rules are today's.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from approvals.domain.decide import AccessRule, PolicyRule, decide
from approvals.domain.inputs import Document, request_of
from approvals.domain.request import AccessRequest, Allow, Decision, RequireApproval
from approvals.models import DecisionInput

MAX_DAYS = 366
MAX_EXAMPLES = 3
MAX_SHOWN = 200
BATCH = 2_000
ACTIONS = ("allow", "require_approval", "deny")

_TRAFFIC = """
    SELECT inputs, {moment} AS moment, count(*), (array_agg(id ORDER BY at DESC))[1:%(examples)s]
      FROM audit_statementrecord
     WHERE at >= %(since)s AND inputs <> '' AND (%(connection)s = '' OR connection = %(connection)s)
     GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision as far as a comparison goes: what happens, by which rule, and who is asked."""

    action: str
    rule: str = ""
    reviewers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """Statements of one kind and one asker whose decision would be another. `examples` are statements' ids."""

    before: Outcome
    after: Outcome
    connection: str
    subject: str
    kind: str
    tables: tuple[str, ...]
    statements: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    """`matrix` counts statements by (action before, action after); `changes` are the largest groups of them."""

    statements: int
    changed: int
    unknown: int  # recorded, but what their decision was made of is not there
    matrix: tuple[tuple[str, str, int], ...]
    changes: tuple[Change, ...]
    more: int  # groups that are not shown
    since: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    access: Sequence[AccessRule]
    policies: Sequence[PolicyRule]


@dataclass(frozen=True, slots=True)
class _Traffic:
    digest: str
    moment: datetime | None
    statements: int
    examples: tuple[str, ...]


def simulate(*, now: Rules, draft: Rules, days: int, on_connection: str = "") -> Simulation:
    """Decide the last `days` of recorded traffic under both rules. Reads only."""
    began = time.perf_counter()
    since = timezone.now() - timedelta(days=min(max(days, 1), MAX_DAYS))
    by_minute = any(policy.when.depends_on_moment for policy in (*now.policies, *draft.policies))
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    groups: dict[tuple[object, ...], Change] = {}
    unknown = 0
    for traffic, document in _documented(_traffic(since, on_connection, by_minute=by_minute)):
        if document is None:
            unknown += traffic.statements
            continue
        request = request_of(document, at=(traffic.moment or timezone.now()).timestamp())
        before, after = outcome(request, now), outcome(request, draft)
        counts[before.action, after.action] += traffic.statements
        if (before.action, before.reviewers) != (after.action, after.reviewers):
            _add(groups, _change(request, before, after, traffic))
    ordered = sorted(groups.values(), key=lambda change: (-change.statements, change.subject, change.kind))
    return Simulation(
        statements=sum(counts.values()),
        changed=sum(change.statements for change in ordered),
        unknown=unknown,
        matrix=tuple((before, after, counts[before, after]) for before in ACTIONS for after in ACTIONS),
        changes=tuple(ordered[:MAX_SHOWN]),
        more=max(0, len(ordered) - MAX_SHOWN),
        since=since,
        seconds=time.perf_counter() - began,
    )


def with_draft(
    policies: Iterable[PolicyRule], *, drafts: Iterable[PolicyRule], without: Iterable[str] = ()
) -> tuple[PolicyRule, ...]:
    """The policies in force with drafts in the place of those of their name, and without the named ones."""
    new = tuple(drafts)
    gone = {*without, *(draft.name for draft in new)}
    return (*(policy for policy in policies if policy.name not in gone), *new)


def outcome(request: AccessRequest, rules: Rules) -> Outcome:
    return _outcome(decide(request, access_rules=rules.access, policies=rules.policies))


def _outcome(decision: Decision) -> Outcome:
    match decision:
        case Allow(rule=rule):
            return Outcome("allow", rule)
        case RequireApproval(rule=rule, reviewers=reviewers):
            asked = sorted(f"{group.quorum} of {group.group}" for group in reviewers)
            return Outcome("require_approval", rule, tuple(asked))
        case _:
            return Outcome("deny", decision.rule)


def _traffic(since: datetime, on_connection: str, *, by_minute: bool) -> list[_Traffic]:
    moment = "date_trunc('minute', at)" if by_minute else "NULL::timestamptz"
    values: dict[str, Any] = {"since": since, "connection": on_connection, "examples": MAX_EXAMPLES}
    with connection.cursor() as cursor:
        cursor.execute(_TRAFFIC.format(moment=moment), values)
        return [_Traffic(row[0], row[1], row[2], tuple(row[3])) for row in cursor.fetchall()]


def _documented(traffic: list[_Traffic]) -> Iterator[tuple[_Traffic, Document | None]]:
    """Each with what its decision was made of, read in batches: memory stays flat whatever the period."""
    for at in range(0, len(traffic), BATCH):
        batch = traffic[at : at + BATCH]
        known = DecisionInput.objects.in_bulk({item.digest for item in batch})
        for item in batch:
            found = known.get(item.digest)
            yield item, None if found is None else found.document


def _change(request: AccessRequest, before: Outcome, after: Outcome, traffic: _Traffic) -> Change:
    analysis = request.analysis
    return Change(
        before=before,
        after=after,
        connection=request.resource.connection,
        subject=request.principal.subject,
        kind=analysis.kind,
        tables=tuple(sorted({str(table) for table in analysis.tables_read | analysis.tables_written})),
        statements=traffic.statements,
        examples=traffic.examples,
    )


def _add(groups: dict[tuple[object, ...], Change], change: Change) -> None:
    key = (change.before, change.after, change.connection, change.subject, change.kind, change.tables)
    known = groups.get(key)
    if known is None:
        groups[key] = change
        return
    groups[key] = replace(
        known,
        statements=known.statements + change.statements,
        examples=(*known.examples, *change.examples)[:MAX_EXAMPLES],
    )
