"""The other half of the proof: what agents really send passes unheld, and is right.

Each statement runs directly and through the gateway; rows, column names and command tags must be equal, apart from the
columns named in `masked`, which must differ from the stored values (or be NULL). Statements are ordered as in a day's
work: look around, count, join, look up, page, reshape, session housekeeping.
"""

# ruff: noqa: E501 - a statement on one line reads better than one broken by quotes

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

import pytest

from hoopweb.embedded.postgres import postgres_binaries
from tests.bypass.attack import Arena, Mode, attack, describe, play
from tests.bypass.wire import Target

TEXT = (Mode.SIMPLE, Mode.EXTENDED_TEXT)


@dataclass(frozen=True)
class Ordinary:
    """One script. `masked` are positions of result columns whose values a rule changes. `steps` share a session."""

    steps: tuple[str, ...]
    masked: tuple[int, ...] = ()
    modes: tuple[Mode, ...] = tuple(Mode)


def plain(*steps: str) -> Ordinary:
    return Ordinary(steps)


def masked(*columns: int, sql: str) -> Ordinary:
    return Ordinary((sql,), masked=columns)


READS = [
    plain("SELECT 1"),
    plain("SELECT 1 + 1 AS two, 'x' AS letter, now() IS NOT NULL AS timed"),
    plain("SELECT count(*) FROM patients"),
    plain("SELECT count(*) AS visits FROM encounters WHERE kind = 'office'"),
    plain("SELECT count(DISTINCT state) FROM patients"),
    plain("SELECT state, count(*) FROM patients GROUP BY state ORDER BY state"),
    plain("SELECT sex, count(*) AS n FROM patients GROUP BY 1 HAVING count(*) > 10 ORDER BY n DESC"),
    plain("SELECT department, kind, count(*) FROM encounters GROUP BY department, kind ORDER BY 1, 2"),
    plain(
        "SELECT icd10, description, count(*) AS n FROM diagnoses GROUP BY icd10, description ORDER BY n DESC, icd10 LIMIT 10"
    ),
    plain(
        "SELECT payer, status, sum(amount), avg(amount)::numeric(12,2), min(amount), max(amount) FROM claims "
        "GROUP BY payer, status ORDER BY payer, status"
    ),
    plain(
        "SELECT p.state, count(*) FROM patients p JOIN encounters e ON e.patient_id = p.id GROUP BY p.state ORDER BY 1"
    ),
    plain(
        "SELECT d.icd10, avg(l.value)::numeric(10,3) FROM diagnoses d JOIN lab_results l USING (encounter_id) "
        "GROUP BY d.icd10 ORDER BY d.icd10 LIMIT 20"
    ),
    plain(
        "SELECT e.id, e.department, d.icd10 FROM encounters e LEFT JOIN diagnoses d ON d.encounter_id = e.id "
        "ORDER BY e.id, d.id LIMIT 25"
    ),
    plain(
        "SELECT e.kind, c.status, count(*) FROM encounters e JOIN claims c ON c.encounter_id = e.id JOIN diagnoses d "
        "ON d.encounter_id = e.id GROUP BY 1, 2 ORDER BY 1, 2"
    ),
    plain(
        "WITH busy AS (SELECT patient_id, count(*) AS n FROM encounters GROUP BY patient_id) SELECT n, count(*) FROM busy "
        "GROUP BY n ORDER BY n"
    ),
    plain("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n) FROM t"),
    plain(
        "SELECT id, row_number() OVER (PARTITION BY patient_id ORDER BY admitted_at) FROM encounters ORDER BY id LIMIT 20"
    ),
    plain(
        "SELECT id, amount, sum(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM claims "
        "ORDER BY id LIMIT 20"
    ),
    plain(
        "SELECT test_name, percentile_cont(0.5) WITHIN GROUP (ORDER BY value) FROM lab_results GROUP BY test_name ORDER BY 1"
    ),
    plain("SELECT date_trunc('month', admitted_at) AS month, count(*) FROM encounters GROUP BY 1 ORDER BY 1"),
    plain("SELECT extract(year FROM submitted_on)::int AS y, count(*) FROM claims GROUP BY 1 ORDER BY 1"),
    plain("SELECT avg(discharged_at - admitted_at) FROM encounters WHERE discharged_at IS NOT NULL"),
    plain("SELECT to_char(submitted_on, 'YYYY-MM') AS m, sum(amount) FROM claims GROUP BY 1 ORDER BY 1 LIMIT 24"),
    plain("SELECT age(date '2024-01-01', date '2000-01-01'), date '2024-01-31' + interval '1 month'"),
    plain("SELECT * FROM diagnoses ORDER BY id LIMIT 10"),
    plain("SELECT * FROM lab_results ORDER BY id LIMIT 5 OFFSET 10"),
    plain("SELECT id, icd10 FROM diagnoses WHERE id > 100 ORDER BY id FETCH FIRST 10 ROWS ONLY"),
    plain("SELECT id, department, status FROM encounters WHERE patient_id = 900001"),
    plain("SELECT id, kind FROM encounters WHERE id IN (1, 2, 3) ORDER BY id"),
    plain(
        "SELECT id FROM encounters WHERE admitted_at >= '2023-01-01' AND admitted_at < '2023-02-01' ORDER BY id LIMIT 50"
    ),
    plain("SELECT id, description FROM diagnoses WHERE description ILIKE '%diabetes%' ORDER BY id LIMIT 5"),
    plain(
        "SELECT count(*) FROM encounters e WHERE EXISTS (SELECT 1 FROM claims c WHERE c.encounter_id = e.id AND c.amount > 100)"
    ),
    plain("SELECT count(*) FROM patients WHERE id IN (SELECT patient_id FROM diagnoses WHERE icd10 LIKE 'E11%')"),
    plain("SELECT count(*) FROM patients p WHERE NOT EXISTS (SELECT FROM encounters e WHERE e.patient_id = p.id)"),
    plain(
        "SELECT CASE WHEN amount > 500 THEN 'high' WHEN amount > 100 THEN 'mid' ELSE 'low' END AS band, count(*) FROM claims "
        "GROUP BY 1 ORDER BY 1"
    ),
    plain("SELECT coalesce(discharged_at::text, 'open') FROM encounters ORDER BY id LIMIT 5"),
    plain("SELECT json_build_object('department', department, 'kind', kind) FROM encounters ORDER BY id LIMIT 3"),
    plain("SELECT json_agg(t) FROM (SELECT icd10, count(*) FROM diagnoses GROUP BY icd10 ORDER BY icd10 LIMIT 3) t"),
    plain("SELECT array_agg(DISTINCT kind ORDER BY kind) FROM encounters"),
    plain("SELECT string_agg(DISTINCT department, ', ' ORDER BY department) FROM encounters"),
    plain("SELECT upper(department), length(department), left(kind, 3) FROM encounters ORDER BY id LIMIT 3"),
    plain("SELECT round(amount / 3, 2), ceil(amount), mod(id, 7) FROM claims ORDER BY id LIMIT 3"),
    plain("SELECT kind FROM encounters WHERE id = 900001 UNION ALL SELECT status FROM encounters WHERE id = 900001"),
    plain("SELECT state FROM patients WHERE sex = 'F' INTERSECT SELECT state FROM patients WHERE sex = 'M' ORDER BY 1"),
    plain("SELECT generate_series(1, 5) AS n"),
    plain("SELECT d::date FROM generate_series(timestamp '2024-01-01', '2024-01-05', '1 day') d"),
    plain("SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(n, l) ORDER BY n"),
    plain(
        "SELECT state, sex, count(*) FROM patients GROUP BY ROLLUP (state, sex) ORDER BY 1 NULLS LAST, 2 NULLS LAST LIMIT 20"
    ),
    plain("SELECT count(*) FILTER (WHERE abnormal), count(*) FROM lab_results"),
    plain("SELECT count(ssn), count(email) FROM patients"),
    plain("SELECT count(*) FROM patients WHERE email IS NULL"),
    plain(
        "SELECT l.loinc, x.n FROM (SELECT DISTINCT loinc FROM lab_results ORDER BY 1 LIMIT 3) l, LATERAL "
        "(SELECT count(*) AS n FROM lab_results r WHERE r.loinc = l.loinc) x ORDER BY 1"
    ),
    plain("SELECT corr(value, id)::numeric(6,3) IS NOT NULL, stddev(value)::numeric(12,3) FROM lab_results"),
    plain("SELECT width_bucket(amount, 0, 1000, 5) AS bucket, count(*) FROM claims GROUP BY 1 ORDER BY 1"),
    plain("/* report 7 */ SELECT count(*) -- all of them\nFROM claims;"),
]

MASKED_READS = [
    masked(1, 2, sql="SELECT id, first_name, last_name FROM patients WHERE id = 900001"),
    masked(1, sql="SELECT id, ssn FROM patients WHERE id IN (900001, 900002) ORDER BY id"),
    masked(
        1,
        sql="SELECT e.department, p.last_name FROM encounters e JOIN patients p ON p.id = e.patient_id WHERE e.id = 900001",
    ),
    masked(0, sql="SELECT mrn, sex, state FROM patients WHERE id = 900001"),
    masked(1, sql="SELECT id, dob FROM patients WHERE id = 900001"),
]

CATALOGUE = [
    plain("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"),
    plain(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'patients' "
        "ORDER BY ordinal_position"
    ),
    plain("SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = 'public'"),
    plain("SELECT relname, relkind FROM pg_class WHERE relname IN ('patients', 'claims') ORDER BY 1"),
    plain(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = "
        "'patients'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    ),
    plain(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'public.claims'::regclass ORDER BY 1"
    ),
    plain("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'patients' ORDER BY 1"),
    plain("SELECT current_database(), current_schema()"),
    plain(
        "SELECT c.relname, obj_description(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'public' AND c.relkind = 'r' ORDER BY 1"
    ),
    plain("SELECT t.oid, typname FROM pg_type t WHERE typname IN ('int4', 'text') ORDER BY 1"),
    plain("SELECT pg_catalog.version() LIKE 'PostgreSQL%'"),
    plain("SELECT name, setting FROM pg_settings WHERE name = 'server_version_num'"),
]

SESSION = [
    plain("SHOW server_version"),
    plain("SHOW transaction_isolation"),
    plain("SHOW search_path"),
    plain("SET application_name = 'report'", "SHOW application_name"),
    plain("SET statement_timeout = '30s'", "SHOW statement_timeout"),
    plain("SET TIME ZONE 'UTC'", "SHOW timezone"),
    plain("BEGIN", "SELECT count(*) FROM claims", "COMMIT"),
    plain("START TRANSACTION READ ONLY", "SELECT 1", "ROLLBACK"),
    plain("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM diagnoses", "END"),
    plain("BEGIN", "SAVEPOINT a", "SELECT 1", "ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a", "COMMIT"),
    plain(
        "PREPARE q (int) AS SELECT kind FROM encounters WHERE id = $1",
        "EXECUTE q(900001)",
        "EXECUTE q(900001)",
        "DEALLOCATE q",
    ),
    plain(
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id, icd10 FROM diagnoses ORDER BY id",
        "FETCH 3 FROM c",
        "FETCH 2 FROM c",
        "CLOSE c",
        "COMMIT",
    ),
    plain("EXPLAIN (COSTS off) SELECT count(*) FROM claims"),
    plain("DISCARD PLANS"),
    plain("RESET application_name"),
    Ordinary(("SELECT 1; SELECT 2; SELECT 3",), modes=(Mode.SIMPLE,)),
    Ordinary(("BEGIN; SELECT count(*) FROM claims; COMMIT",), modes=(Mode.SIMPLE,)),
    Ordinary(("",), modes=TEXT),
    Ordinary((";",), modes=(Mode.SIMPLE,)),
]

ORDINARY = READS + MASKED_READS + CATALOGUE + SESSION
CASES = [(each, mode) for each in ORDINARY for mode in each.modes]


def ordinary_id(value: object) -> str:
    return value.steps[-1 if len(value.steps) < 3 else 1][:60] if isinstance(value, Ordinary) else str(value)


def test_list_is_long_enough_to_mean_something() -> None:
    assert len(ORDINARY) >= 60


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), CASES, ids=ordinary_id)
@pytest.mark.by_turns(2)
def test_ordinary_statement_passes_unheld_and_right(arena: Arena, each: Ordinary, mode: Mode) -> None:
    script = attack("ordinary", *each.steps, transaction=False)
    direct = play(arena.direct, script, mode, rehearsal=True)
    assert direct.errors == [], "the statement is wrong"

    answer = play(arena.gateway, script, mode, rehearsal=False)

    assert answer.errors == [], describe(answer)
    assert answer.review_url is None, "held for approval, expected it to pass"
    assert (answer.columns, answer.tags, answer.status) == (direct.columns, direct.tags, direct.status)
    assert unmasked(answer.rows, each.masked) == unmasked(direct.rows, each.masked)
    for got, stored in zip(answer.rows, direct.rows, strict=True):
        assert all(got[column] != stored[column] for column in each.masked), "a protected column came back as stored"


def unmasked(rows: list[tuple[bytes | None, ...]], masked_columns: tuple[int, ...]) -> list[tuple[bytes | None, ...]]:
    return [tuple(value for column, value in enumerate(row) if column not in masked_columns) for row in rows]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nonsense FROM patients",
        "SELEC 1",
        "SELECT * FROM no_such_table",
        "SELECT 1 FROM encounters WHERE",
        "SELECT no_such_function(1)",
        "SELECT 'a'::date",
        "SELECT 1 / 0",
    ],
)
@pytest.mark.parametrize("mode", TEXT)
def test_mistake_gets_the_database_s_own_sqlstate(arena: Arena, sql: str, mode: Mode) -> None:
    """An agent corrects itself by the code and the position: denying a typing error helps nobody."""
    direct = play(arena.direct, attack("mistake", sql, transaction=False), mode, rehearsal=True)

    answer = play(arena.gateway, attack("mistake", sql), mode, rehearsal=False)

    assert (answer.sqlstate, answer.errors[0].get("P")) == (direct.sqlstate, direct.errors[0].get("P")), describe(
        answer
    )


@pytest.mark.e2e
def test_psql_describes_a_table_as_it_would_directly(arena: Arena) -> None:
    def run(target: Target) -> str:
        dsn = f"host={target.host} port={target.port} dbname={target.database} user={target.user} sslmode=prefer"
        done = subprocess.run(
            [
                str(postgres_binaries() / "psql"),
                "-X",
                dsn,
                "-c",
                r"\dt public.*",
                "-c",
                r"\d claims",
                "-c",
                r"\di claims*",
            ],
            env={**os.environ, "PGPASSWORD": target.password},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(arena.gateway) == run(arena.direct)
