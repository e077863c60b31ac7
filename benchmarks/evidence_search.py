"""Search over a million statements: `python -m benchmarks.evidence_search [N]`. Loads into a database of its own.

Statements are loaded as records, with a skew like a hospital's: a few agents and tables do most of it.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.domain.search import StatementSearch

_LOAD = """
INSERT INTO audit_statementrecord (id, session_id, at, finished_at, subject, actor, owner, connection, protocol,
    gateway, kind, fingerprint, complete, operations,
    tables_read, tables_written, columns_read, classes, risk, decision, rule,
    code, snapshot, review, approvers, status, rows, bytes, masked, recording, error, command_tag, first_seq, last_seq,
    touched, about, subjects, shown)
SELECT gen_random_uuid()::text, 's' || i / 20, at, at, who, '', 'admin', 'clinic', 'postgres', 'g', 'SELECT', '', true,
    '["read"]', jsonb_build_array(tab), '[]', jsonb_build_array(tab || '.ssn'), '["ssn"]', 3, dec, rule, '', 7, '',
    '[]', st, 10, 640, '[]', '', '', 'SELECT 10', 2 * i, 2 * i + 1,
    ARRAY['class:ssn', 'column:' || tab || '.ssn', 'decision:' || dec, 'read:' || tab, 'rule:' || rule],
    '[]', '[]', '[]'
FROM (SELECT i, now() - make_interval(secs => (%(n)s - i) * 2.5) AS at,
    'agent-' || floor(power(random(), 4) * 200) AS who,
    'public.t' || floor(power(random(), 5) * 400) AS tab,
    CASE WHEN random() < .97 THEN 'allow' ELSE 'require_approval' END AS dec,
    'rule-' || floor(power(random(), 3) * 50) AS rule,
    CASE WHEN random() < .98 THEN 'completed' ELSE 'denied' END AS st
    FROM generate_series(1, %(n)s) AS i OFFSET 0) AS made
"""


def load(connection: Any, statements: int) -> None:
    """Load `statements` records into the database of `connection` (Django's)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.4711)")
        cursor.execute(_LOAD, {"n": statements})
        cursor.execute("ANALYZE audit_statementrecord")


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


def main(statements: int) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hoopweb.settings")
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    from audit.domain.search import find_statements  # noqa: PLC0415

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
        worst = 0.0
        for label, search in searches().items():
            times, after = [], ""
            for _ in range(10):  # ten pages deep
                began = time.perf_counter()
                found = find_statements(search, after=after)
                times.append((time.perf_counter() - began) * 1000)
                after = found.after or after
            worst = max(worst, sorted(times)[-1])
            print(f"{label:22} median {statistics.median(times):7.1f} ms, worst {max(times):7.1f} ms")
        print(f"worst of all {worst:.0f} ms")
        return 0 if worst < 300 else 1
    finally:
        connection.close()
        connection.settings_dict["NAME"] = own
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
