"""Temporary tables in the hands of an agent who may have them, where no policy stands behind the rules.

What is carried into a temporary table must show there as its origin does, by whichever statement it came, and must not
be told by what the table refuses either.
"""

from __future__ import annotations

import pytest

from tests.bypass.attack import (
    SIMPLE_ONLY,
    Arena,
    Attack,
    Mode,
    assert_contained,
    attack,
    case_id,
    describe,
    play,
    turns,
)

SSN = "SELECT ssn FROM patients WHERE id = 900001"
MADE = "CREATE TEMP TABLE loot AS SELECT id, ssn AS a, state::text AS b FROM patients WHERE id = 900001"
ONE = "CREATE TEMP TABLE k (x text)"
SHADOW = "CREATE TEMP TABLE patients AS SELECT 900001 AS id, 'harmless'::text AS ssn"
KEYED = "CREATE TEMP TABLE k (i int PRIMARY KEY, x text, z text)"
CODED = "SELECT reverse(last_name) FROM patients WHERE id = 900001"  # no detector knows this for a name

READ = [
    attack("star", MADE, "SELECT * FROM loot"),
    attack("select-into", SSN.replace("ssn", "ssn AS a INTO TEMP loot"), "SELECT a FROM loot"),
    attack("whole-row", MADE, "SELECT loot FROM loot"),
    attack("document", MADE, "SELECT to_jsonb(l) ->> 'a' FROM loot l"),
    attack("field", MADE, "SELECT (l).a FROM loot l"),
    attack("copy", MADE, "COPY loot TO STDOUT", modes=SIMPLE_ONLY),
    attack("cursor", MADE, "BEGIN", "DECLARE c CURSOR FOR SELECT a FROM loot", "FETCH ALL c"),
    attack("view", f"CREATE TEMP VIEW v AS {SSN}", "SELECT * FROM v"),
    attack("view-of-temporary", MADE, "CREATE TEMP VIEW v AS SELECT a AS harmless FROM loot", "SELECT harmless FROM v"),
    attack("recursive-view", f"CREATE TEMP RECURSIVE VIEW v (q) AS {SSN}", "SELECT q FROM v"),
    attack("array", "CREATE TEMP TABLE k AS SELECT array_agg(ssn) AS x FROM patients WHERE id = 900001",
           "SELECT x[1] FROM k"),
    attack("row-column", "CREATE TEMP TABLE k AS SELECT p FROM patients p WHERE id = 900001",
           "SELECT (k.p).ssn FROM k"),
    attack("row-type", "CREATE TEMP TABLE k (p patients)", "INSERT INTO k SELECT p FROM patients p WHERE id = 900001",
           "SELECT (k.p).ssn FROM k"),
    attack("shadow", "CREATE TEMP TABLE encounters AS SELECT id, ssn AS kind FROM patients WHERE id = 900001",
           "SELECT kind FROM encounters"),
    attack("shadow-filled", "CREATE TEMP TABLE claims (id int, payer text)",
           "INSERT INTO claims SELECT id, ssn FROM patients WHERE id = 900001", "SELECT payer FROM claims"),
    attack("like-table", "CREATE TEMP TABLE k (LIKE patients)",
           "INSERT INTO k SELECT * FROM patients WHERE id = 900001", "SELECT ssn FROM k"),
    attack("child-of-temporary", MADE, "CREATE TEMP TABLE kid () INHERITS (loot)",
           "INSERT INTO kid SELECT id, ssn, state FROM patients WHERE id = 900001", "SELECT a FROM kid"),
    attack("renamed-column", MADE, "ALTER TABLE loot RENAME COLUMN a TO zz", "SELECT zz FROM loot"),
    attack("renamed", MADE, "ALTER TABLE loot RENAME TO other", "SELECT a FROM other"),
    attack("statistics", MADE, "INSERT INTO loot SELECT id, ssn, state FROM patients", "ANALYZE loot",
           "SELECT histogram_bounds FROM pg_stats WHERE tablename = 'loot'", leaks=("{",)),
]  # fmt: skip

CARRIED = [
    attack("insert", ONE, f"INSERT INTO k {SSN}", "SELECT x FROM k"),
    attack("insert-returning", ONE, f"INSERT INTO k {CODED} RETURNING x"),
    attack("insert-in-cte", ONE, f"WITH w AS (INSERT INTO k {CODED} RETURNING x) SELECT x FROM w"),
    attack("insert-explained", ONE, f"EXPLAIN ANALYZE INSERT INTO k {SSN}", "SELECT x FROM k"),
    attack("insert-prepared", ONE, f"PREPARE i AS INSERT INTO k {SSN}", "EXECUTE i", "SELECT x FROM k"),
    attack("select-prepared-before", ONE, "PREPARE s AS SELECT x FROM k", f"INSERT INTO k {SSN}", "EXECUTE s"),
    attack("insert-array-element", "CREATE TEMP TABLE k (x text[])", "INSERT INTO k VALUES ('{}')",
           "UPDATE k SET x[1] = ssn FROM patients WHERE patients.id = 900001", "SELECT x[1] FROM k"),
    attack("drop-undone", ONE, f"INSERT INTO k {CODED}", "BEGIN", "SAVEPOINT s", "DROP TABLE k", ONE, "ROLLBACK TO s",
           "SELECT x FROM k"),
    attack("drop-undone-with-its-transaction", ONE, f"INSERT INTO k {CODED}", "BEGIN", "DROP TABLE k", ONE, "ROLLBACK",
           "SELECT x FROM k", transaction=False),
    attack("update", ONE, "INSERT INTO k VALUES ('')", f"UPDATE k SET x = ({SSN})", "SELECT x FROM k"),
    attack("update-returning", ONE, "INSERT INTO k VALUES ('')", f"UPDATE k SET x = ({CODED}) RETURNING x"),
    attack("update-several", KEYED, "INSERT INTO k VALUES (1, '', '')",
           "UPDATE k SET (x, z) = (SELECT state, reverse(last_name) FROM patients WHERE id = 900001)",
           "SELECT z FROM k"),
    attack("update-within", MADE, "UPDATE loot SET b = a", "SELECT b FROM loot"),
    attack("upsert", KEYED, "INSERT INTO k VALUES (900001, '', '')",
           "INSERT INTO k SELECT id, reverse(last_name) FROM patients WHERE id = 900001 "
           "ON CONFLICT (i) DO UPDATE SET x = EXCLUDED.x", "SELECT x FROM k"),
    attack("upsert-elsewhere", KEYED, "INSERT INTO k VALUES (900001, '', '')",
           "INSERT INTO k SELECT id, reverse(last_name) FROM patients WHERE id = 900001 "
           "ON CONFLICT (i) DO UPDATE SET z = EXCLUDED.x", "SELECT z FROM k"),
    attack("upsert-several", KEYED, "INSERT INTO k VALUES (1, '', '')",
           f"INSERT INTO k VALUES (1) ON CONFLICT (i) DO UPDATE SET (x, z) = (SELECT '', r FROM ({CODED}) AS t(r))",
           "SELECT z FROM k"),
    attack("merge", ONE, f"MERGE INTO k USING ({SSN}) p ON false WHEN NOT MATCHED THEN INSERT VALUES (p.ssn)",
           "SELECT x FROM k"),
    attack("second-table", MADE, ONE, "INSERT INTO k SELECT a FROM loot", "SELECT x FROM k"),
    attack("after-truncate", MADE, "TRUNCATE loot", f"INSERT INTO loot SELECT 1, 'x', ({SSN})", "SELECT b FROM loot"),
    attack("savepoint", MADE, "BEGIN", "SAVEPOINT s", "UPDATE loot SET b = a", "ROLLBACK TO s", "SELECT a FROM loot"),
    attack("generated", "CREATE TEMP TABLE k (x text, y text GENERATED ALWAYS AS (upper(x)) STORED)",
           f"INSERT INTO k (x) {SSN}", "SELECT y FROM k"),
    attack("made-anew", "CREATE TEMP TABLE k AS SELECT 'a'::text AS x", "DROP TABLE k",
           f"CREATE TEMP TABLE k (x) AS {SSN}", "SELECT x FROM k"),
    attack("prepared-before-a-shadow", ONE, f"PREPARE s AS {SSN}", SHADOW, "EXECUTE s"),
    attack("prepared-then-shadowed-at-once", f"{ONE}; PREPARE s AS {SSN}; {SHADOW}; EXECUTE s", modes=SIMPLE_ONLY),
    attack("shadow-dropped-at-commit", f"{SHADOW.replace(' AS ', ' ON COMMIT DROP AS ', 1)}; {SSN}", SSN,
           modes=SIMPLE_ONLY, transaction=False),
    attack("shadow-undone-at-once", f"{SHADOW}; {SSN}; ROLLBACK; {SSN}", modes=SIMPLE_ONLY),
    attack("stacked-into", f"{SSN.replace('ssn', 'ssn AS a INTO TEMP k')}; SELECT reverse(reverse(a)) FROM k",
           modes=SIMPLE_ONLY),
    attack("stacked", f"{ONE}; INSERT INTO k {SSN}; SELECT x FROM k", modes=SIMPLE_ONLY),
]  # fmt: skip

TOLD = [
    attack("condition", MADE, "SELECT 'n' || count(*) FROM loot WHERE a LIKE '536%'", leaks=("n1",)),
    attack("condition-in-view", "CREATE TEMP VIEW v AS SELECT id FROM patients WHERE ssn LIKE '536-71-92%'",
           "SELECT 'n' || count(*) FROM v", leaks=("n1",)),
    attack("order-among-guesses", MADE, "INSERT INTO loot VALUES (0, '536-71-9283'), (2, '536-71-9285')",
           "SELECT string_agg(id::text, '<' ORDER BY a) FROM loot", leaks=("0<900001<2",)),
    attack("join-with-guesses", MADE, "CREATE TEMP TABLE g AS SELECT '536-71-9284'::text AS x",
           "SELECT 'n' || count(*) FROM loot JOIN g ON a = x", leaks=("n1",)),
    attack("conflict-counted", "CREATE TEMP TABLE k (x text PRIMARY KEY)", f"INSERT INTO k {SSN}",
           "INSERT INTO k SELECT '536-71-' || g FROM generate_series(9280, 9289) g ON CONFLICT DO NOTHING",
           leaks=("INSERT 0 9",)),
    attack("conflict-counted-from-behind", "CREATE TEMP TABLE k (x text PRIMARY KEY)",
           "INSERT INTO k SELECT '536-71-' || g FROM generate_series(9280, 9289) g",
           f"INSERT INTO k {SSN} ON CONFLICT DO NOTHING", leaks=("INSERT 0 0",)),
    attack("conflict-refused", "CREATE TEMP TABLE k (x text UNIQUE)", f"INSERT INTO k {SSN}",
           "INSERT INTO k VALUES ('536-71-9284')", leaks=("23505",)),
    attack("conflict-deferred", "CREATE TEMP TABLE k (x text UNIQUE DEFERRABLE INITIALLY DEFERRED)",
           f"INSERT INTO k {SSN}", "INSERT INTO k VALUES ('536-71-9284')", "SET CONSTRAINTS ALL IMMEDIATE",
           leaks=("23505",)),
    attack("unique-index", MADE, "INSERT INTO loot SELECT * FROM loot", "CREATE UNIQUE INDEX ON loot (a)"),
    attack("failing-row", "CREATE TEMP TABLE k (n text NOT NULL, x text)",
           "INSERT INTO k SELECT NULL, ssn FROM patients WHERE id = 900001"),
    attack("failing-cast", "CREATE TEMP TABLE k (x int)", f"INSERT INTO k SELECT s::int FROM ({SSN}) AS t(s)"),
    attack("domain", "CREATE TEMP TABLE k (x attack_domain)", "INSERT INTO k VALUES ('a')"),
    attack("domain-copied", "CREATE TEMP TABLE k (x attack_domain)", "COPY k FROM STDIN", copy_in=b"a\n",
           modes=SIMPLE_ONLY),
]  # fmt: skip

ATTACKS: list[Attack] = READ + CARRIED + TOLD


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_temporary_tables_disclose_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("steps", "tags", "rows"),
    [
        (
            [
                "CREATE TEMP TABLE k (i int PRIMARY KEY, x text)",
                "INSERT INTO k VALUES (1, 'a'), (2, 'b') ON CONFLICT DO NOTHING",
                "INSERT INTO k SELECT id, sex FROM patients WHERE id = 900001 ON CONFLICT (i) DO UPDATE SET x = 'c'",
                "SELECT x FROM k ORDER BY i",
            ],
            ["CREATE TABLE", "INSERT 0 2", "INSERT 0 1", "SELECT 3"],
            [(b"a",), (b"b",), (b"F",)],
        ),
        (
            [
                "CREATE TEMP TABLE loot AS SELECT id, ssn, state FROM patients WHERE id = 900001",
                "SELECT count(ssn), count(*) FILTER (WHERE ssn IS NULL) FROM loot",
                "SELECT l.state, e.kind = e.kind FROM loot l JOIN encounters e ON e.patient_id = l.id",
            ],
            ["SELECT 1", "SELECT 1", "SELECT 1"],
            [(b"1", b"0"), (b"CA", b"t")],
        ),
    ],
    ids=["keys", "beside-protected"],
)
def test_work_with_temporary_tables_is_not_held(
    arena: Arena, steps: list[str], tags: list[str], rows: list[tuple[bytes, ...]]
) -> None:
    answer = play(arena.bare, attack("work", *steps), Mode.SIMPLE, rehearsal=False)

    assert (answer.tags, answer.rows) == (tags, rows), describe(answer)
