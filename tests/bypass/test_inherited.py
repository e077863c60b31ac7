"""Carrying protected values into tables nobody protected, where no policy stands behind the rules.

The columns inherit: durably, before the first value is there, for every session. Each attack's control shows the value.
"""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from tests.bypass.attack import Arena, Attack, Mode, assert_contained, attack, case_id, describe, play
from tests.bypass.canary import found
from tests.bypass.conftest import gateway_target
from tests.bypass.test_agent import held
from tests.bypass.test_temporary import turns
from tests.bypass.wire import Wire
from tests.reviews import decide
from tests.stack import Stack

SSN = "SELECT 1, ssn FROM patients WHERE id = 900001"
CODED = "SELECT 1, reverse(last_name) FROM patients WHERE id = 900001"  # no detector knows this for a name
CARRY = f"INSERT INTO attack_open (id, x) {SSN}"
READ = "SELECT x FROM attack_open"

ATTACKS: list[Attack] = [
    attack("insert", CARRY, READ),
    attack("insert-coded", f"INSERT INTO attack_open (id, x) {CODED}", READ),
    attack("insert-returning", f"INSERT INTO attack_open (id, x) {CODED} RETURNING x"),
    attack("insert-in-cte", f"WITH w AS (INSERT INTO attack_open (id, x) {CODED} RETURNING x) SELECT x FROM w"),
    attack("insert-through-view", f"INSERT INTO attack_open_view (id, harmless) {SSN}", READ),
    attack("insert-explained", f"EXPLAIN ANALYZE {CARRY}", READ),
    attack("insert-prepared", f"PREPARE i AS {CARRY}", "EXECUTE i", READ, "DEALLOCATE ALL"),
    attack("read-through-view", CARRY, "SELECT harmless FROM attack_open_view"),
    attack("read-generated", CARRY, "SELECT loud FROM attack_open"),
    attack("read-copied", CARRY, "COPY attack_open (x) TO STDOUT", modes=(Mode.SIMPLE,)),
    attack("read-row", CARRY, "SELECT o FROM attack_open o"),
    attack("read-prepared-before", "PREPARE s AS SELECT x FROM attack_open", CARRY, "EXECUTE s", "DEALLOCATE ALL"),
    attack("update-from", "INSERT INTO attack_open (id) VALUES (900001)",
           "UPDATE attack_open o SET x = p.ssn FROM patients p WHERE p.id = o.id AND p.id = 900001", READ),
    attack("update-by-subquery", "INSERT INTO attack_open (id) VALUES (1)",
           f"UPDATE attack_open SET (id, x) = ({SSN})", READ),
    attack("merge", "MERGE INTO attack_open o USING patients p ON p.id = o.id "
           "WHEN NOT MATCHED AND p.id = 900001 THEN INSERT (id, x) VALUES (p.id, p.ssn)", READ),
    attack("upsert", "INSERT INTO attack_keyed VALUES ('k', '')",
           "INSERT INTO attack_keyed SELECT 'k', ssn FROM patients WHERE id = 900001 "
           "ON CONFLICT (word) DO UPDATE SET note_of = EXCLUDED.note_of", "SELECT note_of FROM attack_keyed"),
    attack("second-table", CARRY, "INSERT INTO attack_open2 SELECT id, x FROM attack_open",
           "SELECT z FROM attack_open2"),
    attack("second-table-at-once",
           f"WITH w AS (INSERT INTO attack_open (id, x) {SSN} RETURNING id, x) INSERT INTO attack_open2 TABLE w",
           "SELECT z FROM attack_open2"),
    attack("second-column", CARRY, "UPDATE attack_open SET y = reverse(x)", "SELECT reverse(y) FROM attack_open"),
    attack("from-temporary", "CREATE TEMP TABLE loot AS " + SSN, "INSERT INTO attack_open (id, x) SELECT * FROM loot",
           READ),
    attack("ordinary-table", "UPDATE encounters SET status = left(p.ssn, 3) FROM patients p WHERE p.id = patient_id "
           "AND p.id = 900001", "SELECT status FROM encounters WHERE id = 900001", leaks=("536",)),
    attack("within-protected", "UPDATE patients SET zip = left(ssn, 5) WHERE id = 900001",
           "SELECT zip FROM patients WHERE id = 900001", leaks=("536",)),
    attack("turned-within-protected", "UPDATE patients SET zip = reverse(zip) WHERE id = 900001",
           "SELECT zip FROM patients WHERE id = 900001", leaks=("139",)),
    attack("into-free-text", "UPDATE clinical_notes SET note = reverse(p.last_name) FROM patients p "
           "WHERE p.id = 900001 AND clinical_notes.id = 900001", "SELECT note FROM clinical_notes WHERE id = 900001"),
    attack("order-among-guesses", "DELETE FROM attack_open", CARRY,
           "INSERT INTO attack_open (id, x) VALUES (0, '536-71-9283'), (2, '536-71-9285')",
           "SELECT string_agg(id::text, '<' ORDER BY x) FROM attack_open WHERE id < 3", leaks=("0<1<2",)),
    attack("join-with-guess", CARRY, "DELETE FROM attack_open",
           "INSERT INTO attack_open (id, x) VALUES (5, '536-71-9284')",
           "SELECT 'n' || count(*) FROM attack_open o JOIN patients p ON p.ssn = o.x WHERE o.id = 5", leaks=("n1",)),
    attack("guesses-counted", "INSERT INTO attack_keyed SELECT '536-71-' || g FROM generate_series(9280, 9289) g",
           "INSERT INTO attack_keyed SELECT ssn FROM patients WHERE id = 900001 ON CONFLICT DO NOTHING",
           leaks=("INSERT 0 0",)),
]  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_what_was_carried_discloses_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)


@pytest.mark.e2e
def test_inherited_classes_are_kept_and_hold_for_every_session(arena: Arena, stack: Stack) -> None:
    carried = play(arena.bare, attack("carry", "DELETE FROM attack_open2", f"INSERT INTO attack_open2 {CODED}"),
                   Mode.SIMPLE, rehearsal=False)  # fmt: skip

    elsewhere = play(arena.bare, attack("read", "SELECT id, z FROM attack_open2"), Mode.SIMPLE, rehearsal=False)

    assert carried.tags[-1:] == ["INSERT 0 1"], describe(carried)
    assert elsewhere.rows == [(b"1", b"[REDACTED]")]
    with psycopg.connect(str(stack.demo["control_dsn"])) as control:
        kept = control.execute(
            "SELECT c.name, t.evidence LIKE 'statement %' FROM masking_columntag t "
            "JOIN masking_dataclass c ON c.id = t.data_class_id "
            "WHERE t.source = 'inherited' AND t.connection = 'bare' AND t.column = 'public.attack_open2.z'"
        ).fetchall()
    assert kept
    assert all(names_its_statement for _, names_its_statement in kept)


@pytest.mark.e2e
def test_what_was_carried_over_one_connection_is_masked_over_another(arena: Arena) -> None:
    """Two connections to one database, each with its rules over the source."""
    carry = attack("carry", "DELETE FROM attack_open2", f"INSERT INTO attack_open2 {CODED}")
    carried = play(arena.bare, carry, Mode.SIMPLE, rehearsal=False)

    elsewhere = play(arena.gateway, attack("read", "SELECT z FROM attack_open2 LIMIT 5"), Mode.SIMPLE, rehearsal=False)

    with Wire(arena.owner) as owner:
        control = owner.simple("SELECT z FROM attack_open2")
    assert (carried.tags[-1:], found(control.received)) == (["INSERT 0 1"], ["last_name reversed"]), describe(carried)
    assert elsewhere.rows == [(b"[REDACTED]",)], describe(elsewhere)


@pytest.mark.e2e
def test_table_that_a_reviewer_lets_be_made_inherits(arena: Arena, stack: Stack) -> None:
    maker = gateway_target(stack, connection="bare", agent="attack-maker")
    made = "CREATE TABLE attack_made (a, b) AS SELECT 1, reverse(last_name) FROM patients WHERE id = 900001"

    with held(replace(arena, gateway=maker), made) as (answer, url):
        decide(stack, url, "approve")
    read = play(maker, attack("read", "SELECT a, b FROM attack_made"), Mode.SIMPLE, rehearsal=False)

    with Wire(arena.owner) as owner:
        control = owner.simple("SELECT b FROM attack_made")
    assert (answer.tags, found(control.received)) == (["SELECT 1"], ["last_name reversed"]), describe(answer)
    assert read.rows == [(b"1", b"[REDACTED]")], describe(read)
