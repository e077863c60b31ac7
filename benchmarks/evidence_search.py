"""A million statements: searches, accounting by patient, blast radius, a month's reports.

`python -m benchmarks.evidence_search [N]` loads into a database of its own. Two of five statements are about patients,
of whom there are 50,000; nine of ten of those name them, five on average. People, tables and patients have a skew like
a hospital's: a few do most of it.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.domain.search import StatementSearch

SEARCH_MS, ACCOUNTING_MS, REPORT_MS = 300, 1_000, 30_000
_LOAD = """
INSERT INTO audit_statementrecord (id, session_id, at, finished_at, subject, actor, owner, connection, protocol,
    gateway, kind, fingerprint, complete, operations,
    tables_read, tables_written, columns_read, classes, risk, decision, rule,
    code, snapshot, review, approvers, status, rows, bytes, masked, recording, error, command_tag, first_seq, last_seq,
    touched, about, subjects, shown, emergency, inputs)
SELECT 'st' || i, 's' || i / 20, at, at, who, '', 'admin', 'clinic', 'postgres', 'g', 'SELECT', '', true,
    '["read"]', jsonb_build_array(tab), '[]', jsonb_build_array(tab || '.ssn'), '["ssn"]', 3, dec, rule, '', 7, '',
    '[]', st, 10, 640, '[{"column": "ssn", "rule": "ssn", "technique": "redact", "count": 10}]', '', '', 'SELECT 10',
    2 * i - 1, 2 * i,
    ARRAY['class:ssn', 'column:' || tab || '.ssn', 'decision:' || dec, 'read:' || tab, 'rule:' || rule],
    CASE WHEN i %% 5 < 2 THEN '["patient"]'::jsonb ELSE '[]' END,
    CASE WHEN i %% 5 >= 2 THEN '[]'::jsonb
        WHEN i %% 50 = 0 THEN '[{"name": "patient", "known": false, "why": "no-key"}]'
        ELSE '[{"name": "patient", "known": true, "count": 5, "without": 0}]' END,
    CASE WHEN i %% 5 >= 2 THEN '[]'::jsonb ELSE jsonb_build_array(
        jsonb_build_object('column', 'id', 'of', jsonb_build_array(tab || '.id'), 'as', 'clear'),
        jsonb_build_object('column', 'ssn', 'of', jsonb_build_array(tab || '.ssn'), 'as', 'redact')) END, '', ''
FROM (SELECT i, now() - make_interval(secs => (%(n)s - i) * 2.5) AS at,
    'agent-' || floor(power(random(), 4) * 200) AS who,
    'public.t' || floor(power(random(), 5) * 400) AS tab,
    CASE WHEN random() < .97 THEN 'allow' ELSE 'require_approval' END AS dec,
    'rule-' || floor(power(random(), 3) * 50) AS rule,
    CASE WHEN random() < .98 THEN 'completed' ELSE 'denied' END AS st
    FROM generate_series(1, %(n)s) AS i OFFSET 0) AS made
"""
_ENTRIES = """
INSERT INTO audit_logentry (seq, leaf, prev, canonical, kind, session_id, statement_id, subject, connection, at)
SELECT seq, sha256(seq::text::bytea), sha256((seq - 1)::text::bytea),
    convert_to('{"body":{"connection":"clinic","subject":"' || subject || '"},"seq":' || seq || '}', 'UTF8'),
    CASE WHEN seq = first_seq THEN 'statement.authorised' ELSE 'statement.completed' END,
    session_id, id, subject, connection, at
FROM audit_statementrecord, LATERAL (VALUES (first_seq), (last_seq)) AS places(seq) ORDER BY seq
"""
_SIGHTINGS = """
INSERT INTO audit_subjectsighting (token, seq, key, name)
SELECT substr(sha256(('patient' || floor(power(random(), 3) * 50000))::bytea), 1, 16), last_seq, 1, 'patient'
FROM audit_statementrecord, generate_series(1, 5) WHERE subjects @> '[{"known": true}]' ON CONFLICT DO NOTHING
"""
_TABLES = ("audit_statementrecord", "audit_logentry", "audit_subjectsighting")


def load(connection: Any, statements: int) -> None:
    """Load `statements` records, their entries and their subjects into the database of `connection` (Django's)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.4711)")
        cursor.execute(_LOAD, {"n": statements})
        cursor.execute(_ENTRIES)
        cursor.execute(_SIGHTINGS)
        for table in _TABLES:
            cursor.execute(f"ANALYZE {table}")


def searches() -> dict[str, StatementSearch]:
    from audit.domain.search import StatementSearch  # noqa: PLC0415

    return {
        "newest": StatementSearch(),
        "common table": StatementSearch(table="public.t0"),
        "rare table": StatementSearch(table="public.t397"),
        "rare column": StatementSearch(column="public.t390.ssn"),
        "class of all": StatementSearch(data_class="ssn"),
        "rare rule and table": StatementSearch(rule="rule-48", table="public.t0"),
        "busy agent": StatementSearch(subject="agent-0"),
        "quiet agent": StatementSearch(subject="agent-198"),
        "agent and table": StatementSearch(subject="agent-3", table="public.t3"),
        "denied": StatementSearch(status="denied"),
        "held decision": StatementSearch(decision="require_approval"),
        "absent": StatementSearch(table="public.nowhere"),
    }


def questions(cursor: Any) -> dict[str, Callable[[], object]]:
    """Who saw a patient, and whose records an agent saw: the busiest, a quiet one, and none."""
    from audit.domain.accounting import Window, account, blast_radius  # noqa: PLC0415

    cursor.execute("SELECT token FROM audit_subjectsighting GROUP BY token ORDER BY count(*) DESC LIMIT 1")
    busiest = bytes(cursor.fetchone()[0])
    cursor.execute("SELECT token FROM audit_subjectsighting GROUP BY token ORDER BY count(*), token LIMIT 1")
    quietest = bytes(cursor.fetchone()[0])
    month = datetime.now(UTC) - timedelta(days=30)
    return {
        "patient seen most, ever": lambda: account(tokens=[busiest], name="patient", window=Window()),
        "patient seen least, ever": lambda: account(tokens=[quietest], name="patient", window=Window()),
        "patient nobody saw, a month": lambda: account(tokens=[bytes(16)], name="patient", window=Window(since=month)),
        "patient by one agent": lambda: account(tokens=[busiest], name="patient", window=Window(subject="agent-0")),
        "records a quiet agent saw": lambda: blast_radius(window=Window(subject="agent-150")),
        "records an agent saw in a month": lambda: blast_radius(window=Window(subject="agent-20", since=month)),
    }


def reports() -> dict[str, Callable[[], object]]:
    """A month of the reports that count statements, read to their end."""
    from audit.domain.reports import REPORTS, Period  # noqa: PLC0415

    until = datetime.now(UTC) + timedelta(days=1)
    period = Period(until - timedelta(days=31), until)
    named = ("activity", "access", "masking")
    return {f"report: {name}, a month": lambda name=name: list(REPORTS[name].make(period)) for name in named}  # type: ignore[misc]


def timed(work: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return found


def main(statements: int) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hoopweb.settings")
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    name = "evidence_search_bench"
    own = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        call_command("migrate", verbosity=0)
        began = time.perf_counter()
        load(connection, statements)
        print(f"{statements} statements loaded in {time.perf_counter() - began:.0f} s")
        return 0 if measure(connection) else 1
    finally:
        connection.close()
        connection.settings_dict["NAME"] = own
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def measure(connection: Any) -> bool:
    """Print every figure; whether all are within their bounds, and memory stays flat."""
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    good = [_say(f"search: {label}", _pages(search), SEARCH_MS) for label, search in searches().items()]
    with connection.cursor() as cursor:
        asked = questions(cursor)
    good += [_say(label, timed(work, 10), ACCOUNTING_MS) for label, work in asked.items()]
    good += [_say(label, timed(work, 2), REPORT_MS) for label, work in reports().items()]
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    print(f"memory grew by {grown_mb:.0f} MB")
    return all(good) and grown_mb < 100


def _pages(search: StatementSearch) -> list[float]:
    from audit.domain.search import find_statements  # noqa: PLC0415

    after = [""]

    def page() -> None:
        found = find_statements(search, after=after[0])
        after[0] = found.after or after[0]

    return timed(page, 10)  # ten pages deep


def _say(label: str, times: list[float], bound_ms: float) -> bool:
    """The first reads from disk what the others find in memory: the bound is on the median."""
    median = statistics.median(times)
    print(f"{label:34} median {median:8.1f} ms, worst {max(times):8.1f} ms, bound {bound_ms:.0f} ms")
    return median < bound_ms


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
