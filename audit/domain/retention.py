"""Destroying what is past its retention: certified first, then erased a portion at a time, never what is held.

The certificate is in the log and under a signed, published checkpoint before the first row goes; a purge that is cut
short is finished by the next. A log that does not verify is not purged: evidence of damage is evidence. Rows go in the
order they were written, by ranges of their keys, so that a portion touches few pages and no index is searched twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from audit.domain.certificates import (
    PROJECTIONS,
    RECORDINGS,
    SUBJECT_KINDS,
    SUBJECTS,
    TEXTS,
    Hold,
)
from audit.domain.certify import certify
from audit.domain.checkpoints import LogDamaged
from audit.domain.chunk_partitions import CHUNKS, drop_empty_months, empty_month, months, purge_moment
from audit.domain.chunk_store import outside_store
from audit.domain.entry import Json
from audit.domain.holds import holds_in_force
from audit.domain.logged_retention import logged_days
from audit.domain.partitions import SEALED, SIGHTINGS, TABLES, drop_empty, empty_partition, partitions, purge_place
from audit.domain.purges import not_held, purging
from audit.models_retention import SIX_YEARS_DAYS, LegalHold, RetentionPolicy

PORTION = 20_000  # places of the log a transaction goes over
CLASSES = (TEXTS, RECORDINGS, SUBJECTS, PROJECTIONS)


class PurgeRefused(RuntimeError):
    """Nothing was destroyed, and why."""


@dataclass(frozen=True, slots=True)
class Due:
    """What a purge of one class would destroy: all of it up to entry `up_to` that is older and that no hold covers."""

    record_class: str
    until: datetime
    up_to: int
    count: int
    held: int


@dataclass(frozen=True, slots=True)
class _Part:
    """One kind of row of a class. `count` and `erase` go over places `e`; `{free}` is what no hold covers."""

    erase: str
    count: str = ""
    at: str = "at"
    session: str = "session_id"

    def run(self, query: str, places: tuple[int, int], until: datetime, holds: Sequence[Hold]) -> int:
        """Count or erase what is in these places, older than `until` and held by nothing. Returns how many."""
        free, values = not_held(holds, at=self.at, session=self.session)
        with connection.cursor() as cursor:
            cursor.execute(_over(query, places, free), [until, *values])
            return int(cursor.fetchone()[0]) if query is self.count else int(cursor.rowcount)


def _over(query: str, places: tuple[int, int], free: str) -> str:
    """Places stand in the text as numbers, so that the planner looks into no partition beside them."""
    low, high = places
    return query.format(low=low, high=high, free=free)


def days_of(record_class: str) -> int:
    """By the table and by the log, whichever is longer: a row that was changed beside them shortens nothing."""
    row = RetentionPolicy.objects.filter(pk=record_class).first()
    return max(row.days if row is not None else 0, logged_days().get(record_class, SIX_YEARS_DAYS))


def what_is_due(*, now: datetime | None = None) -> list[Due]:
    """What a purge would destroy now, class by class; destroys nothing."""
    moment, holds = now or datetime.now(UTC), holds_in_force()
    return [_due(name, moment, holds) for name in CLASSES]


def purge(*, by: str, now: datetime | None = None) -> list[Due]:
    """Certify and destroy what is due. Raises PurgeRefused; what was certified by then is finished by the next one."""
    done: list[Due] = []
    with purging():
        holds = holds_in_force()
        for name in CLASSES:
            due = _due(name, now or datetime.now(UTC), holds)
            if due.count:
                _certify(due, holds, by=by)
                done.append(due)
        _empty_partitions(done, holds)
        _empty_months(done, holds)
        for due in done:
            _erase_all(due, holds)
        for table in TABLES:
            drop_empty(table)
        drop_empty_months(before=now or datetime.now(UTC))
    return done


def _empty_partitions(dues: Sequence[Due], certified: Sequence[Hold]) -> None:
    """Whole partitions of which nothing stays: what is held, or of a class that is kept longer, keeps its partition."""
    by_class = {due.record_class: due for due in dues}
    furthest = max((due.up_to for name, due in by_class.items() if name in _GOES[SEALED]), default=0)
    for table in TABLES:
        for part in partitions(table):
            if part.high - 1 <= furthest:
                with transaction.atomic():
                    _no_hold_is_placed()
                    goes, values = _goes(by_class, _GOES[table], [*certified, *holds_in_force()])
                    empty_partition(part, stays=_STAYS.format(goes=goes), values=values)


def _empty_months(dues: Sequence[Due], certified: Sequence[Hold]) -> None:
    """Months of results of which nothing stays, or little: the few that are held are put back."""
    for due in dues:
        if due.record_class == RECORDINGS:
            for month in months():
                if month.high <= due.until:
                    with transaction.atomic():
                        _no_hold_is_placed()
                        free, held = not_held([*certified, *holds_in_force()])
                        _erase_objects(due, (0, due.up_to), [*certified, *holds_in_force()], month.table)
                        empty_month(month, stays=_over(_KEPT, (0, due.up_to), free), values=[due.until, *held])


def _goes(dues: Mapping[str, Due], classes: Mapping[str, str], holds: Sequence[Hold]) -> tuple[str, list[Any]]:
    """SQL that is true of an entry `e` whose row goes, and its values."""
    free, held = not_held(holds)
    parts, values = ["false"], []
    for name, kinds in classes.items():
        if name in dues:
            parts.append(f"({kinds} AND e.seq <= %s AND e.at < %s AND {free})")
            values += [dues[name].up_to, dues[name].until, *held]
    return " OR ".join(parts), values


def _erase_all(due: Due, certified: Sequence[Hold]) -> None:
    # Records have no index by place, and are few and small: they go at once.
    portion = due.up_to if due.record_class == PROJECTIONS else PORTION
    for low in range(_first_place(due), due.up_to, portion):
        # A hold that is placed meanwhile saves what is left.
        _erase(due, (low, min(low + portion, due.up_to)), certified)


def _first_place(due: Due) -> int:
    """Where the first row is that could go: an old log is not looked through from its beginning every night."""
    tables = _FIRST.get(due.record_class, ())
    with connection.cursor() as cursor:
        firsts = []
        for table in tables:
            cursor.execute(f"SELECT min(seq) FROM {table}")  # noqa: S608
            firsts.append(cursor.fetchone()[0])
    found = [first for first in firsts if first is not None]
    return min(found) - 1 if found else 0


def _due(record_class: str, now: datetime, holds: Sequence[Hold]) -> Due:
    days = days_of(record_class)
    until = now - timedelta(days=days)
    if record_class == RECORDINGS:
        until = purge_moment(until, days=days)
    up_to = _place_before(until)
    if up_to and record_class in _FIRST:
        up_to = purge_place(up_to, until=until)
    if not up_to:
        return Due(record_class, until, 0, 0, 0)
    parts = [part for part in _PARTS[record_class] if part.count]
    count = sum(part.run(part.count, (0, up_to), until, holds) for part in parts)
    every = sum(part.run(part.count, (0, up_to), until, ()) for part in parts) if holds else count
    return Due(record_class, until, up_to, count, every - count)


def _place_before(until: datetime) -> int:
    """The newest place that is old enough. Clocks step over each other: an entry's own moment counts as well."""
    with connection.cursor() as cursor:
        cursor.execute(
            # Apart, or the newest place would be looked for from the end of the log.
            "SELECT coalesce(max(seq), 0) FROM (SELECT seq FROM audit_logentry WHERE at < %s OFFSET 0) AS old",
            [until],
        )
        return int(cursor.fetchone()[0])


def _certify(due: Due, holds: Sequence[Hold], *, by: str) -> None:
    body: dict[str, Json] = {
        "subject": by,
        "class": due.record_class,
        "until": due.until.isoformat(),
        "up_to": due.up_to,
        "count": due.count,
        "held": due.held,
        "holds": [asdict(hold) for hold in holds],
    }
    try:
        certify(body)
    except LogDamaged as damage:
        raise PurgeRefused(f"the log is damaged, nothing was purged: {damage}") from None


def _erase(due: Due, places: tuple[int, int], certified: Sequence[Hold]) -> None:
    with transaction.atomic():
        _no_hold_is_placed()
        holds = [*certified, *holds_in_force()]
        if due.record_class == RECORDINGS:
            _erase_objects(due, places, holds)
        for part in _PARTS[due.record_class]:
            part.run(part.erase, places, due.until, holds)


def _no_hold_is_placed() -> None:
    """Whoever places a hold now waits for this portion: none is in force, and recorded so, over what is just going."""
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {LegalHold._meta.db_table} IN SHARE MODE")


def _erase_objects(due: Due, places: tuple[int, int], holds: Sequence[Hold], table: str = CHUNKS) -> None:
    """What lies outside goes before the rows that name it: cut short, the next purge finds it by them."""
    free, values = not_held(holds)
    with connection.cursor() as cursor:
        cursor.execute(_over(_OUTSIDE.replace(CHUNKS, table), places, free), [due.until, *values])
        addresses = [address for (address,) in cursor.fetchall()]
    outside = outside_store()
    if addresses and outside is None:
        raise PurgeRefused("recordings lie in a store that is not configured any more")
    if addresses and outside is not None:
        outside.erase(addresses)


_CARRIERS = ", ".join(f"'{kind}'" for kind in sorted(SUBJECT_KINDS))
_RANGE = "e.seq > {low} AND e.seq <= {high} AND e.at < %s AND {free}"
_OWN = "t.seq > {low} AND t.seq <= {high}"
_NAMED = (  # recordings by the entries that name them
    "FROM audit_recording AS r JOIN audit_logentry AS e ON e.session_id = r.session_id"
    " AND e.statement_id = r.statement_id AND e.kind = 'statement.completed' WHERE " + _RANGE
)
_CHUNKS_OF = (
    f"FROM {CHUNKS} AS t, (SELECT r.id, r.created_at {_NAMED}) AS r WHERE t.recording_id = r.id AND t.at = r.created_at"
)
_OUTSIDE = f"SELECT t.address {_CHUNKS_OF} AND t.data IS NULL"
_KEPT = f"r.id NOT IN (SELECT r.id {_NAMED})"
_OVER = "e.last_seq > {low} AND e.last_seq <= {high} AND e.{at} < %s AND {free}"
_STATEMENTS = (
    f"FROM audit_statementrecord AS e WHERE e.status NOT IN ('held', 'running') AND {_OVER.replace('{at}', 'at')}"
)
_SESSIONS = f"FROM audit_sessionrecord AS e WHERE e.closed_at IS NOT NULL AND {_OVER.replace('{at}', 'opened_at')}"


def _sealed(kinds: str) -> _Part:
    where = f"WHERE e.seq = t.seq AND {kinds} AND {_OWN} AND {_RANGE}"
    return _Part(
        erase=f"DELETE FROM audit_sealedtext AS t USING audit_logentry AS e {where}",  # noqa: S608
        count=f"SELECT count(*) FROM audit_sealedtext AS t, audit_logentry AS e {where}",  # noqa: S608
    )


_STAYS = "NOT EXISTS (SELECT 1 FROM audit_logentry AS e WHERE e.seq = t.seq AND ({goes}))"
# Which classes' rows lie in a partitioned table, and the entries they belong to.
_GOES: dict[str, dict[str, str]] = {
    SEALED: {TEXTS: f"e.kind NOT IN ({_CARRIERS})", SUBJECTS: f"e.kind IN ({_CARRIERS})"},
    SIGHTINGS: {SUBJECTS: "true"},
}
_FIRST = {TEXTS: (SEALED,), SUBJECTS: (SEALED, SIGHTINGS)}
# All text here is ours; every value is a parameter.
_PARTS: dict[str, tuple[_Part, ...]] = {
    TEXTS: (_sealed(f"e.kind NOT IN ({_CARRIERS})"),),
    SUBJECTS: (
        _Part(f"DELETE FROM {SIGHTINGS} AS t USING audit_logentry AS e WHERE e.seq = t.seq AND {_OWN} AND {_RANGE}"),  # noqa: S608
        _sealed(f"e.kind IN ({_CARRIERS})"),
    ),
    RECORDINGS: (
        _Part(f"DELETE {_CHUNKS_OF.replace(' AS t, ', ' AS t USING ')}"),
        _Part(f"DELETE FROM audit_recording WHERE id IN (SELECT r.id {_NAMED})", f"SELECT count(*) {_NAMED}"),  # noqa: S608
    ),
    PROJECTIONS: (
        _Part(f"DELETE {_STATEMENTS}", f"SELECT count(*) {_STATEMENTS}"),
        _Part(f"DELETE {_SESSIONS}", f"SELECT count(*) {_SESSIONS}", at="opened_at", session="id"),
    ),
}
