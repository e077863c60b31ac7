"""Laundering: carry the value somewhere else first, or let code of the database read it on the attacker's behalf."""

from __future__ import annotations

import pytest

from tests.bypass.attack import SIMPLE_ONLY, Arena, Attack, Mode, assert_contained, attack, by_turns, case_id

SSN = "SELECT ssn FROM patients WHERE id = 900001"
TEXT = (Mode.SIMPLE, Mode.EXTENDED_TEXT)

COPIES = [
    attack("ctas-temp", f"CREATE TEMP TABLE loot AS {SSN}", "SELECT * FROM loot"),
    attack("ctas-renamed", f"CREATE TEMP TABLE loot (a) AS {SSN}", "SELECT a FROM loot"),
    attack("ctas-table", f"CREATE TABLE attack_loot AS {SSN}", "SELECT * FROM attack_loot"),
    attack(
        "ctas-unlogged-derived",
        "CREATE UNLOGGED TABLE attack_loot2 AS SELECT reverse(ssn) AS r FROM patients WHERE id = 900001",
        "SELECT r FROM attack_loot2",
    ),
    attack("select-into-temp", "SELECT ssn AS a INTO TEMP loot FROM patients WHERE id = 900001", "SELECT a FROM loot"),
    attack(
        "create-then-insert-select", "CREATE TEMP TABLE loot (x text)", f"INSERT INTO loot {SSN}", "SELECT x FROM loot"
    ),
    attack(
        "ctas-execute",
        f"PREPARE q AS {SSN}",
        "CREATE TEMP TABLE loot AS EXECUTE q",
        "SELECT * FROM loot",
        "DEALLOCATE ALL",
    ),
    attack(
        "insert-into-unprotected",
        "INSERT INTO attack_echo (id, note) SELECT 900002, ssn FROM patients WHERE id = 900001",
        "SELECT note FROM attack_echo",
    ),
    attack(
        "update-unprotected-by-subquery",
        f"UPDATE encounters SET department = ({SSN}) WHERE id = 900001",
        "SELECT department FROM encounters WHERE id = 900001",
    ),
    attack(
        "update-unprotected-from",
        "UPDATE encounters e SET department = p.ssn FROM patients p WHERE p.id = e.patient_id AND e.id = 900001",
        "SELECT department FROM encounters WHERE id = 900001",
    ),
    attack(
        "update-within-protected",
        "UPDATE patients SET city = ssn WHERE id = 900001",
        "SELECT city FROM patients WHERE id = 900001",
    ),
    attack(
        "writable-cte-insert",
        f"WITH s AS ({SSN}) INSERT INTO attack_echo SELECT 900002, ssn FROM s",
        "SELECT note FROM attack_echo",
    ),
    attack(
        "merge-into-unprotected",
        "MERGE INTO encounters e USING patients p ON p.id = e.patient_id AND p.id = 900001 "
        "WHEN MATCHED THEN UPDATE SET department = p.ssn",
        "SELECT department FROM encounters WHERE id = 900001",
    ),
    attack("view-made-now", f"CREATE TEMP VIEW peek AS {SSN}", "SELECT * FROM peek"),
    attack(
        "view-made-now-renamed",
        "CREATE TEMP VIEW peek (harmless) AS SELECT ssn FROM patients WHERE id = 900001",
        "SELECT harmless FROM peek",
    ),
    attack(
        "materialized-view-made-now", f"CREATE MATERIALIZED VIEW attack_loot3 AS {SSN}", "SELECT * FROM attack_loot3"
    ),
    attack(
        "recursive-view",
        "CREATE RECURSIVE VIEW attack_peek (a) AS SELECT ssn FROM patients WHERE id = 900001",
        "SELECT a FROM attack_peek",
    ),
]

EXISTING = [
    attack("view", "SELECT code FROM attack_view WHERE id = 900001"),
    attack("view-derived-column", "SELECT label FROM attack_view WHERE id = 900001"),
    attack("view-star", "SELECT * FROM attack_view WHERE id = 900001"),
    attack("view-of-view", "SELECT c FROM attack_view_deep WHERE id = 900001"),
    attack("view-of-whole-row", "SELECT doc ->> 'ssn' FROM attack_view_row WHERE id = 900001"),
    attack("view-row-reference", "SELECT v FROM attack_view v WHERE id = 900001"),
    attack("materialized-view", "SELECT code FROM attack_matview"),
    attack("partition", "SELECT secret FROM attack_part WHERE id = 1"),
    attack("partition-parent", "SELECT secret FROM attack_parted WHERE id = 1"),
    attack("function", "SELECT attack_lookup(900001)"),
    attack("function-in-from", "SELECT * FROM attack_lookup(900001)"),
    attack("function-of-rows", "SELECT ssn FROM attack_rows()"),
    attack("function-of-rows-field", "SELECT (attack_rows()).last_name"),
    attack(
        "function-in-where-and-out", "SELECT f FROM encounters e, attack_lookup(e.patient_id) f WHERE e.id = 900001"
    ),
    attack(
        "function-as-column", "SELECT e.id, attack_lookup(e.patient_id) AS status FROM encounters e WHERE e.id = 900001"
    ),
    attack("function-dynamic-sql", "SELECT attack_dynamic('SELECT ssn FROM patients WHERE id = 900001')"),
    attack("function-immutable", "SELECT attack_constant(900001)"),
    attack("function-notice", "SELECT attack_shout(900001)"),
    attack("function-exception", "SELECT attack_fail(900001)"),
    attack("function-setting", "SELECT attack_set(900001)", "SHOW attack.secret"),
    attack("function-setting-read", "SELECT attack_set(900001)", "SELECT current_setting('attack.secret')"),
    attack("aggregate", "SELECT attack_glue(ssn) FROM patients WHERE id = 900001"),
    attack("aggregate-window", "SELECT attack_glue(ssn) OVER () FROM patients WHERE id = 900001"),
    attack("operator", "SELECT ~@~ 900001"),
    attack("procedure", "CALL attack_procedure('x')"),
    attack("domain-check-notice", "SELECT 'a'::attack_domain"),
    attack("trigger-fills", "INSERT INTO attack_sink (id) VALUES (900001) RETURNING note"),
    attack("trigger-fills-then-read", "INSERT INTO attack_sink (id) VALUES (900001)", "SELECT note FROM attack_sink"),
    attack("trigger-notice", "INSERT INTO attack_echo (id) VALUES (900001)"),
    attack("rule-returns-rows", "INSERT INTO attack_ruled VALUES (900001)", modes=SIMPLE_ONLY),
    attack("default-expression", "INSERT INTO attack_default (id) VALUES (1) RETURNING note"),
]

CODE = [
    attack("do-notice", "DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM patients WHERE id = 900001); END $$"),
    attack("do-exception", "DO $$ BEGIN RAISE EXCEPTION '%', (SELECT ssn FROM patients WHERE id = 900001); END $$"),
    attack(
        "do-setting",
        "DO $$ BEGIN PERFORM set_config('a.b', (SELECT ssn FROM patients WHERE id = 900001), false); END $$",
        "SHOW a.b",
    ),
    attack(
        "create-function", f"CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS '{SSN}'", "SELECT pg_temp.f()"
    ),
    attack(
        "create-function-atomic",
        f"CREATE FUNCTION pg_temp.g() RETURNS text LANGUAGE sql BEGIN ATOMIC {SSN}; END",
        "SELECT pg_temp.g()",
    ),
    attack(
        "create-procedure",
        "CREATE PROCEDURE attack_p() LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', "
        "(SELECT ssn FROM patients WHERE id = 900001); END $$",
        "CALL attack_p()",
    ),
    attack(
        "create-trigger",
        "CREATE FUNCTION pg_temp.t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := "
        "(SELECT ssn FROM patients WHERE id = 900001); RETURN NEW; END $$",
        "CREATE TEMP TABLE w (n text)",
        "CREATE TRIGGER t BEFORE INSERT ON w FOR EACH ROW EXECUTE FUNCTION pg_temp.t()",
        "INSERT INTO w VALUES ('x') RETURNING n",
    ),
    attack(
        "default-of-temp-table",
        "CREATE TEMP TABLE w (i int, n text DEFAULT attack_lookup(900001))",
        "INSERT INTO w (i) VALUES (1) RETURNING n",
    ),
    attack(
        "generated-column",
        "CREATE TEMP TABLE w (i int, n text GENERATED ALWAYS AS (attack_constant(i)) STORED)",
        "INSERT INTO w (i) VALUES (900001) RETURNING n",
    ),
    attack("check-constraint-detail", "CREATE TEMP TABLE w (n text CHECK (n = 'x'))", f"INSERT INTO w {SSN}"),
]

# The gateway reads these bodies itself: what they return is masked for what they read.
BODIES = [
    attack("atomic-function", "SELECT attack_atomic(900001)"),
    attack("atomic-function-wrapped", "SELECT reverse(attack_atomic(id)) FROM encounters WHERE id = 900001"),
    attack("atomic-function-whole-row", "SELECT attack_whole(900001)"),
    attack("atomic-function-field", "SELECT attack_whole(900001) ->> 'ssn'"),
    attack("atomic-table-function", "SELECT a, b FROM attack_table()"),
    attack("atomic-table-function-row", "SELECT t FROM attack_table() t"),
    attack(
        "atomic-function-lateral", "SELECT x FROM encounters e, LATERAL attack_atomic(e.patient_id) x WHERE id = 900001"
    ),
    attack("atomic-function-aggregated", "SELECT string_agg(attack_atomic(id), ',') FROM patients WHERE id = 900001"),
    attack("atomic-function-in-values", "VALUES (1, attack_atomic(900001))"),
    attack("atomic-function-in-case", "SELECT CASE WHEN attack_atomic(900001) > '0' THEN attack_atomic(900001) END"),
    attack("atomic-function-in-error", "SELECT attack_atomic(900001)::int"),
    attack("atomic-function-copied", "COPY (SELECT attack_atomic(900001)) TO STDOUT", modes=SIMPLE_ONLY),
]

STATE = [
    attack("set-config", "SELECT set_config('a.b', ssn, false) FROM patients WHERE id = 900001"),
    attack(
        "set-config-hidden", "SELECT count(set_config('a.b', ssn, false)) FROM patients WHERE id = 900001", "SHOW a.b"
    ),
    attack(
        "set-config-application-name",
        "SELECT count(set_config('application_name', ssn, false)) FROM patients WHERE id = 900001",
        "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()",
    ),
    attack(
        "set-config-guc-report",
        "SELECT count(set_config('application_name', ssn, false)) FROM patients WHERE id = 900001",
        transaction=False,
    ),
    attack(
        "notify",
        "LISTEN attack",
        "SELECT count(pg_notify('attack', ssn)) FROM patients WHERE id = 900001",
        "SELECT 1",
        transaction=False,
    ),
    attack(
        "large-object",
        "SELECT lo_from_bytea(887766, ssn::bytea) FROM patients WHERE id = 900001",
        "SELECT lo_get(887766)",
    ),
    attack(
        "advisory-lock",
        "SELECT count(pg_advisory_xact_lock(replace(ssn, '-', '')::bigint)) FROM patients WHERE id = 900001",
        "SELECT objid FROM pg_locks WHERE locktype = 'advisory'",
        modes=TEXT,
    ),
    attack(
        "sequence",
        "SELECT count(setval('attack_sequence', replace(ssn, '-', '')::bigint)) FROM patients WHERE id = 900001",
        "SELECT last_value FROM attack_sequence",
        modes=TEXT,
        undo="SELECT setval('attack_sequence', 1, false)",
    ),
    attack(
        "sequence-currval",
        "SELECT count(setval('attack_sequence', replace(ssn, '-', '')::bigint)) FROM patients WHERE id = 900001",
        "SELECT currval('attack_sequence')",
        modes=TEXT,
        undo="SELECT setval('attack_sequence', 1, false)",
    ),
    attack("cursor", "BEGIN", f"DECLARE c CURSOR FOR {SSN}", "FETCH ALL FROM c", "COMMIT"),
    attack(
        "cursor-scroll", "BEGIN", f"DECLARE c SCROLL CURSOR FOR {SSN}", "MOVE LAST IN c", "FETCH FIRST FROM c", "COMMIT"
    ),
    attack("cursor-with-hold", f"DECLARE c CURSOR WITH HOLD FOR {SSN}", "FETCH 1 FROM c", "CLOSE c"),
    attack(
        "cursor-binary",
        "BEGIN",
        "DECLARE c BINARY CURSOR FOR SELECT dob, ssn FROM patients WHERE id = 900001",
        "FETCH ALL FROM c",
        "COMMIT",
    ),
    attack(
        "cursor-redeclared",
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT 'harmless' FROM patients WHERE id = 900001",
        "CLOSE c",
        f"DECLARE c CURSOR FOR {SSN}",
        "FETCH ALL FROM c",
        "COMMIT",
    ),
    attack("cursor-to-xml-name", "BEGIN", f'DECLARE "odd name" CURSOR FOR {SSN}', 'FETCH ALL "odd name"', "COMMIT"),
    attack("prepare-execute", f"PREPARE q AS {SSN}", "EXECUTE q", "DEALLOCATE q"),
    attack(
        "prepare-argument",
        "PREPARE q(int) AS SELECT ssn FROM patients WHERE id = $1",
        "EXECUTE q(900001)",
        "DEALLOCATE q",
    ),
    attack(
        "prepare-again-under-same-name",
        "PREPARE q AS SELECT 'harmless'",
        "EXECUTE q",
        "DEALLOCATE q",
        f"PREPARE q AS {SSN}",
        "EXECUTE q",
        "DEALLOCATE q",
    ),
    attack(
        "explain-execute",
        f"PREPARE q AS {SSN}",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT attack_constant(900001)",
        "DEALLOCATE q",
    ),
    attack("explain-constant-folding", "EXPLAIN VERBOSE SELECT attack_constant(900001)"),
    attack("explain-constant-condition", "EXPLAIN SELECT id FROM patients WHERE city = attack_constant(900001)"),
    attack("explain-json", "EXPLAIN (FORMAT json, VERBOSE) SELECT attack_constant(900001)"),
    attack("explain-analyze-notice", "EXPLAIN ANALYZE SELECT attack_shout(900001)"),
    attack(
        "statistics",
        "SELECT histogram_bounds FROM pg_stats WHERE tablename = 'attack_identifiers'",
        leaks=("1836311903",),
    ),
    attack("statistics-star", "SELECT * FROM pg_stats WHERE tablename = 'attack_identifiers'"),
    attack("statistics-cast", "SELECT histogram_bounds::text FROM pg_catalog.pg_stats WHERE attname = 'national_id'"),
]

ATTACKS: list[Attack] = COPIES + EXISTING + CODE + BODIES + STATE


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), by_turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_laundering_discloses_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode)
