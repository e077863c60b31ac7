"""What sessions count: the statements, denials and rows of each, and the place of its newest entry.

An append says what it adds beside the head it states (`audit.domain.head`): a session's record that changed with every
batch would be as many versions as the session has batches while somebody keeps a snapshot open. Once a second, and
before somebody reads the numbers, `count_sessions` adds up what was said since, and the heads it was said beside go:
all but the newest, which is the log's.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass

from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from audit.domain.head import LOCK

_TABLE = "audit_sessionrecord"
_SUMS = (
    "SELECT r.id, sum(r.statements)::int AS statements, sum(r.denied)::int AS denied, sum(r.rows)::bigint AS rows,"
    " max(r.last_seq) AS last_seq FROM audit_loghead AS h CROSS JOIN LATERAL jsonb_to_recordset(h.counts)"
    " AS r(id text, statements int, denied int, rows bigint, last_seq bigint) WHERE {} GROUP BY r.id"
)
_COUNTED = {name: f"t.{name} + coalesce(r.{name}, 0)" for name in ("statements", "denied", "rows")} | {
    "last_seq": "greatest(t.last_seq, r.last_seq)"
}
_ADD = (
    f"UPDATE {_TABLE} AS t SET {', '.join(f'{name} = {sum_}' for name, sum_ in _COUNTED.items())}"  # noqa: S608
    f" FROM ({_SUMS.format('h.after BETWEEN %s AND %s')}) AS r WHERE t.id = r.id"
)
# Heads of one turn: the log is locked meanwhile, for some milliseconds.
_MOST = 1_000
_LOCK_WITHIN = "500ms"
_REMEMBERED_S = 60.0


@dataclass(slots=True)
class _Place:
    """Before it, this process found nothing left to count in this log, not long ago.

    What was counted is gone. Whoever looks for the first of what is there meets it all the same, as long as somebody
    keeps a snapshot open that knows it.
    """

    log: uuid.UUID | None = None
    after: int = -1
    until: float = 0.0


_PLACE = _Place()


def count_sessions() -> None:
    """Bring sessions' numbers up to date, or leave them as they are where others keep the log locked for long.

    Not within a transaction: it would keep the log locked itself.
    """
    with suppress(OperationalError), connection.cursor() as cursor:
        while _count_some(cursor):
            pass


def _count_some(cursor: CursorWrapper) -> bool:
    """Whether there may be more."""
    start = _start(cursor)
    cursor.execute("SELECT counts <> '[]' FROM audit_loghead WHERE after >= %s ORDER BY after LIMIT 2", [start])
    if cursor.fetchall() in ([], [(False,)]):
        return False
    with transaction.atomic():
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_WITHIN])
        cursor.execute(LOCK)
        cursor.execute(
            "SELECT max(after), (SELECT max(after) FROM audit_loghead)"
            " FROM (SELECT after FROM audit_loghead WHERE after >= %s ORDER BY after LIMIT %s) AS few",
            [start, _MOST],
        )
        last, newest = cursor.fetchone()
        if last is None:  # somebody removed them
            return False
        cursor.execute(_ADD, [start, last])
        cursor.execute("DELETE FROM audit_loghead WHERE after BETWEEN %s AND %s", [start, min(last, newest - 1)])
        if last == newest:
            cursor.execute("UPDATE audit_loghead SET counts = '[]' WHERE after = %s AND counts <> '[]'", [newest])
    _PLACE.after = last
    return bool(last < newest)


def _start(cursor: CursorWrapper) -> int:
    """Where to look from: the beginning now and then, because a log may have been put back."""
    cursor.execute("SELECT log_id, (SELECT max(after) FROM audit_loghead) FROM audit_logstate")
    log, newest = cursor.fetchone() or (None, None)
    now = time.monotonic()
    if log != _PLACE.log or newest is None or newest < _PLACE.after or now >= _PLACE.until:
        _PLACE.log, _PLACE.after, _PLACE.until = log, -1, now + _REMEMBERED_S
    return _PLACE.after


def counted_records(cursor: CursorWrapper, schema: str) -> str:
    """SQL of the sessions' records as they are once all is counted, with their table's columns in its order."""
    cursor.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        [f"{schema}.{_TABLE}"],
    )
    names = [name for (name,) in cursor.fetchall()]
    columns = ", ".join(f'{_COUNTED.get(name, f"t.{name}")} AS "{name}"' for name in names)
    return f"SELECT {columns} FROM {schema}.{_TABLE} AS t LEFT JOIN ({_SUMS.format('true')}) AS r ON r.id = t.id"  # noqa: S608
