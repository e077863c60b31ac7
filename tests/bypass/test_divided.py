"""In which partition a row lies, where it is divided by a protected column: that tells between which bounds it is."""

from __future__ import annotations

import pytest

from tests.bypass.attack import Arena, Attack, Mode, assert_contained, attack, case_id, describe, play
from tests.bypass.test_temporary import turns

TOLD = ("ZqxJ",)  # nobody else says so
NAMED = "CASE tableoid::regclass::text WHEN 'attack_born_forties' THEN 'Zq' || 'xJ' END"
PLAN = "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off)"

DIVIDED: list[Attack] = [
    attack("its-name", "SELECT reverse(tableoid::regclass::text) FROM attack_born WHERE id = 1", leaks=("seitrof",)),
    attack("its-number", f"SELECT {NAMED} FROM attack_born WHERE id = 1", leaks=TOLD),
    attack("asked-for", "SELECT 'Zq' || 'xJ' FROM attack_born WHERE id = 1 "
           "AND tableoid = 'attack_born_forties'::regclass", leaks=TOLD),
    attack("read-alone", "SELECT 'Zq' || 'xJ' FROM attack_born_forties WHERE id = 1", leaks=TOLD),
    attack("counted-alone", "SELECT 'Zq' || repeat('xJ', count(*)::int) FROM attack_born_forties WHERE id = 1",
           leaks=TOLD),
    attack("copied-alone", "COPY (SELECT 'Zq' || 'xJ' FROM attack_born_forties WHERE id = 1) TO STDOUT", leaks=TOLD),
    attack("joined", "SELECT 'Zq' || 'xJ' FROM attack_born b JOIN pg_class c ON c.oid = b.tableoid "
           "WHERE b.id = 1 AND c.relname = 'attack_born_forties'", leaks=TOLD),
    attack("written-alone", "UPDATE attack_born_forties SET id = id WHERE id = 1 RETURNING 'Zq' || 'xJ'", leaks=TOLD),
    attack("out-of-a-row", "UPDATE attack_born SET id = id WHERE id = 1 RETURNING reverse(tableoid::regclass::text)",
           leaks=("seitrof",)),
    attack("in-a-plan", f"{PLAN} SELECT 1 FROM attack_born WHERE id = 1 LIMIT 1",
           leaks=("Seq Scan on attack_born_forties",)),
]  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(DIVIDED), ids=case_id)
def test_partition_of_a_row_is_not_told(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)


@pytest.mark.e2e
def test_divided_table_itself_is_read_as_any(arena: Arena) -> None:
    steps = ("SELECT id FROM attack_born ORDER BY id", "SELECT tableoid::regclass FROM encounters LIMIT 1")

    answer = play(arena.bare, attack("whole", *steps), Mode.SIMPLE, rehearsal=False)

    assert answer.rows == [(b"1",), (b"2",), (b"encounters",)], describe(answer)
