"""Rows of a table's type, out of functions and in composite columns, and what was prepared while things were unknown.

Each attack is played where no policy stands behind the rules.
"""

from __future__ import annotations

import pytest

from tests.bypass.attack import SIMPLE_ONLY, Arena, Attack, Mode, assert_contained, attack, case_id
from tests.bypass.test_temporary import turns

LAST = "reverse(last_name)"  # no detector knows this for a name

ROWS: list[Attack] = [
    attack("function-star", "SELECT (attack_rows()).*"),
    attack("function-field", f"SELECT {LAST.replace('last_name', '(attack_rows()).last_name')}"),
    attack("function-from", f"SELECT {LAST} FROM attack_rows()"),
    attack("function-aliased", "SELECT reverse(d) FROM attack_rows() AS r(a, b, c, d)"),
    attack("function-row", "SELECT r FROM attack_rows() r"),
    attack("function-row-text", "SELECT reverse(r::text) FROM attack_rows() r"),
    attack("function-document", "SELECT to_jsonb(attack_rows()) ->> 'ssn'"),
    attack("function-unnested", "SELECT reverse((u).last_name) FROM unnest(ARRAY(SELECT attack_rows())) u"),
    attack("function-lateral", f"SELECT {LAST.replace('last_name', 'r.last_name')} FROM encounters e, "
           "LATERAL attack_rows() r WHERE e.id = 900001"),
    attack("function-cte", f"WITH r AS (SELECT * FROM attack_rows()) SELECT {LAST} FROM r"),
    attack("function-rows-from", "SELECT reverse(last_name) FROM ROWS FROM (attack_rows()) WITH ORDINALITY"),
    attack("function-prepared", "PREPARE r AS SELECT (attack_rows()).*", "EXECUTE r"),
    attack("function-cursor", "BEGIN", "DECLARE c CURSOR FOR SELECT (attack_rows()).*", "FETCH c", "ROLLBACK"),
    attack("function-temporary", "CREATE TEMP TABLE k AS SELECT * FROM attack_rows()", f"SELECT {LAST} FROM k"),
    attack("function-temporary-at-once",
           f"CREATE TEMP TABLE k AS SELECT (attack_rows()).*; SELECT {LAST} FROM k", modes=SIMPLE_ONLY),
    attack("whole-row-argument", "SELECT reverse(attack_polymorphic(p)) FROM patients p WHERE id = 900001"),
    attack("whole-row-record", "SELECT reverse((json_populate_record(NULL::patients, to_json(p))).last_name) "
           "FROM patients p WHERE id = 900001"),
    attack("whole-row-array", "SELECT reverse((array_agg(p))[1].last_name) FROM patients p WHERE id = 900001"),
    attack("whole-row-case", "SELECT reverse((CASE WHEN true THEN p END).last_name) FROM patients p WHERE id = 900001"),
    attack("whole-row-coalesced", "SELECT reverse((coalesce(NULL, p)).last_name) FROM patients p WHERE id = 900001"),
    attack("whole-row-subquery", "SELECT reverse((SELECT p FROM patients p WHERE id = 900001).last_name)"),
    attack("whole-row-values", "SELECT reverse((v.r).last_name) FROM patients p, LATERAL (VALUES (p)) v(r) "
           "WHERE p.id = 900001"),
    attack("field-beside-a-dropped-column", "SELECT (SELECT d FROM attack_dropped d).secret"),
    attack("field-by-subquery-beside-a-dropped-column",
           "SELECT (q.d).secret FROM (SELECT d FROM attack_dropped d OFFSET 0) q"),
    attack("fields-beside-a-dropped-column",
           "WITH q AS MATERIALIZED (SELECT d FROM attack_dropped d) SELECT (d).* FROM q"),
    attack("composite-column", "CREATE TEMP TABLE k (p patients, n int)",
           "INSERT INTO k (p) SELECT p FROM patients p WHERE id = 900001",
           f"SELECT {LAST} FROM k, LATERAL (SELECT (k.p).*) q"),
    attack("composite-field-set", "CREATE TEMP TABLE k (p patients)", "INSERT INTO k VALUES (NULL)",
           "UPDATE k SET p.address = (SELECT reverse(last_name) FROM patients WHERE id = 900001)",
           "SELECT (p).address FROM k"),
    attack("composite-array", "CREATE TEMP TABLE k AS SELECT array_agg(p) AS a FROM patients p WHERE id = 900001",
           "SELECT reverse((a[1]).last_name) FROM k"),
    attack("composite-at-once", "CREATE TEMP TABLE k AS SELECT p FROM patients p WHERE id = 900001; "
           "SELECT reverse((p).last_name) FROM k", modes=SIMPLE_ONLY),
]  # fmt: skip

READ = f"SELECT {LAST} FROM patients WHERE id = 900001"
UNKNOWN: list[Attack] = [
    attack("after-a-refusal", "SELECT attack_lookup(900001)", f"PREPARE q AS {READ}", "EXECUTE q"),
    attack("after-a-probe", "SELECT nope FROM patients", f"PREPARE q AS {READ}", "EXECUTE q", transaction=False),
    attack("after-a-block", "DO $$ BEGIN PERFORM 1; END $$", f"PREPARE q AS {READ}", "EXECUTE q"),
    attack("after-an-error-at-once", "SELECT 1/0", f"PREPARE q AS {READ}; EXECUTE q", modes=SIMPLE_ONLY,
           transaction=False),
    attack("of-what-is-not-yet", "PREPARE q AS SELECT x FROM k", "CREATE TEMP TABLE k (x text)",
           f"INSERT INTO k {READ}", "PREPARE q AS SELECT x FROM k", "EXECUTE q", transaction=False),
    attack("before-it-was-filled", "CREATE TEMP TABLE k (x text)", "PREPARE q AS SELECT x FROM k",
           f"INSERT INTO k {READ}", "EXECUTE q"),
    attack("under-another-name", "CREATE TEMP TABLE k AS SELECT 'a'::text AS x", "PREPARE q AS SELECT x FROM k",
           "DROP TABLE k", f"CREATE TEMP TABLE k AS SELECT {LAST} AS x FROM patients WHERE id = 900001", "EXECUTE q"),
    attack("renamed-beneath", "CREATE TEMP TABLE k AS SELECT 'a'::text AS x, reverse(last_name) AS y FROM patients "
           "WHERE id = 900001", "PREPARE q AS SELECT x FROM k", "ALTER TABLE k RENAME x TO z",
           "ALTER TABLE k RENAME y TO x", "DEALLOCATE q", "PREPARE q AS SELECT x FROM k", "EXECUTE q"),
    attack("made-by-code", f"DO $do$ BEGIN EXECUTE $q$PREPARE q AS {READ}$q$; END $do$", "EXECUTE q"),
    attack("replaced-at-once", f"PREPARE q AS SELECT 1; DEALLOCATE q; PREPARE q AS {READ}; EXECUTE q",
           modes=SIMPLE_ONLY),
]  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(ROWS + UNKNOWN), ids=case_id)
@pytest.mark.by_turns(2)
def test_rows_and_what_was_unknown_disclose_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)
