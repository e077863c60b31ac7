"""What purging results costs: `python -m benchmarks.evidence_purge [RECORDINGS]` loads into a database of its own.

So many recordings of one month past their retention, each a sealed chunk of 16 KB, beside as many young ones that stay:
erased as a whole month, and the same row by row, as a month goes of which much is held. Certificate and checkpoint,
which cost the same either way, are left out.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

RECORDINGS = 20_000
MONTH = "2019-03-01"
_LOAD = """
INSERT INTO audit_logentry (seq, leaf, prev, canonical, session_id, statement_id, kind, subject, connection, at)
SELECT %(after)s + i, '', '', '', %(name)s || i / 20, %(name)s || i, 'statement.completed', 'agent', 'clinic',
    %(at)s::timestamptz + i * interval '1 second' FROM generate_series(1, %(count)s) AS i;
INSERT INTO audit_recording (id, session_id, statement_id, format, digest, salt_box, plain_bytes, stored_bytes, chunks,
    created_at, closed_at)
SELECT %(name)s || i, %(name)s || i / 20, %(name)s || i, 'pgwire', %(name)s || i, '', 0, 16384, 1,
    %(at)s::timestamptz + i * interval '1 second', %(at)s FROM generate_series(1, %(count)s) AS i;
INSERT INTO audit_recordingchunk (recording_id, index, at, address, data)
SELECT %(name)s || i, 0, %(at)s::timestamptz + i * interval '1 second', md5(i::text),
    decode(repeat(md5(i::text), 1024), 'hex') FROM generate_series(1, %(count)s) AS i;
"""


def main(count: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hoopweb.settings")
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    name, own = "evidence_purge_bench", connection.settings_dict["NAME"]
    for whole in (True, False):
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        connection.settings_dict["NAME"] = name
        try:
            call_command("migrate", verbosity=0)
            with connection.cursor() as cursor:
                _load(cursor, count)
                print(_measured(cursor, whole=whole), flush=True)
        finally:
            connection.close()
            connection.settings_dict["NAME"] = own
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _load(cursor: Any, count: int) -> None:
    cursor.execute("DROP TABLE audit_recordingchunk_p0")
    for low, high in (("MINVALUE", f"'{MONTH}'"), (f"'{MONTH}'", "'2019-04-01'"), ("'2019-04-01'", "MAXVALUE")):
        table = f"audit_recordingchunk_p{high.strip(chr(39)).replace('-', '')}".lower()
        cursor.execute(f"CREATE TABLE {table} PARTITION OF audit_recordingchunk FOR VALUES FROM ({low}) TO ({high})")
    cursor.execute("SELECT now() - interval '9 days'")
    (young,) = cursor.fetchone()
    cursor.execute(_LOAD, {"after": 0, "name": "old", "at": f"{MONTH}T00:00:00Z", "count": count})
    cursor.execute(_LOAD, {"after": count, "name": "young", "at": young, "count": count})
    cursor.execute("ANALYZE")
    cursor.execute("CHECKPOINT")


def _measured(cursor: Any, *, whole: bool) -> str:
    from audit.domain import retention  # noqa: PLC0415

    retention.certify = lambda said: None  # type: ignore[attr-defined,assignment,return-value]
    if not whole:
        retention._empty_months = lambda dues, certified: None
    cursor.execute("SELECT pg_current_wal_lsn(), pg_total_relation_size('audit_recording')")
    before, _ = cursor.fetchone()
    began = time.perf_counter()
    (due,) = [due for due in retention.purge(by="benchmark") if due.record_class == "recordings"]
    seconds = time.perf_counter() - began
    cursor.execute(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s) / 1e6, count(*),"
        " (SELECT sum(pg_total_relation_size(inhrelid)) / 1e6 FROM pg_inherits"
        " WHERE inhparent = 'audit_recordingchunk'::regclass) FROM audit_recordingchunk",
        [before],
    )
    logged, left, megabytes = cursor.fetchone()
    how = "a whole month" if whole else "row by row"
    return f"{how}: {due.count} results in {seconds:.2f} s, {logged:.0f} MB logged; {left} left in {megabytes:.0f} MB"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDINGS)
