"""Making tables and views in the hands of an agent who may define, where only incomplete definitions are reviewed.

What is made of unprotected columns alone needs nobody; whatever meets a protected one is held, however it is written.
"""

from __future__ import annotations

import pytest

from tests.bypass.attack import SIMPLE_ONLY, Arena, Attack, Mode, attack, case_id, describe, play
from tests.bypass.canary import found
from tests.bypass.conftest import gateway_target
from tests.bypass.test_temporary import turns
from tests.bypass.wire import Target, Wire
from tests.stack import Stack

LAST = "reverse(last_name) AS x FROM patients WHERE id = 900001"  # no detector knows this for a name
READ = "SELECT x FROM attack_defined"

ATTACKS: list[Attack] = [
    attack("table", f"CREATE TABLE attack_defined AS SELECT {LAST}", READ),
    attack("spelled", f'create/**/UNLOGGED table "attack_defined" AS/* */(SELECT {LAST})', READ),
    attack("unicode", f'CREATE TABLE U&"attack\\005fdefined" AS SELECT {LAST}', READ),
    attack("renamed", f"CREATE TABLE attack_defined (id, x) AS SELECT 1, {LAST}", READ),
    attack("into", "SELECT reverse(last_name) AS x INTO attack_defined FROM patients WHERE id = 900001", READ),
    attack("cte", f"CREATE TABLE attack_defined AS WITH w AS (SELECT {LAST}) TABLE w", READ),
    attack("subquery", f"CREATE TABLE attack_defined AS SELECT (SELECT {LAST}) AS x", READ),
    attack("values", f"CREATE TABLE attack_defined (x) AS VALUES ((SELECT {LAST}))", READ),
    attack("row", "CREATE TABLE attack_defined AS SELECT p FROM patients p WHERE id = 900001",
           "SELECT reverse((p).last_name) FROM attack_defined"),
    attack("document", "CREATE TABLE attack_defined AS SELECT to_jsonb(p) AS x FROM patients p WHERE id = 900001",
           "SELECT reverse(x ->> 'last_name') FROM attack_defined"),
    attack("star", "CREATE TABLE attack_defined AS TABLE patients",
           "SELECT reverse(last_name) FROM attack_defined WHERE id = 900001"),
    attack("through-view", "CREATE TABLE attack_defined AS SELECT code AS x FROM attack_view WHERE id = 900001", READ),
    attack("through-function", "CREATE TABLE attack_defined AS SELECT reverse(attack_atomic(900001)) AS x",
           "SELECT reverse(x) FROM attack_defined"),
    attack("through-temporary", f"CREATE TEMP TABLE k AS SELECT {LAST}", "CREATE TABLE attack_defined AS TABLE k",
           READ),
    attack("through-temporary-at-once",
           f"CREATE TEMP TABLE k AS SELECT {LAST}; CREATE TABLE attack_defined AS TABLE k; {READ}", modes=SIMPLE_ONLY),
    attack("through-temporary-view", f"CREATE TEMP VIEW k AS SELECT {LAST}",
           "CREATE TABLE attack_defined AS SELECT x || '' AS x FROM k", READ),
    attack("view", f"CREATE VIEW attack_defined AS SELECT {LAST}", READ),
    attack("materialised", f"CREATE MATERIALIZED VIEW attack_defined AS SELECT {LAST}", READ),
    attack("without-data", f"CREATE MATERIALIZED VIEW attack_defined AS SELECT {LAST} WITH NO DATA",
           "REFRESH MATERIALIZED VIEW attack_defined", READ),
    attack("executed", f"PREPARE q AS SELECT {LAST}", "CREATE TABLE attack_defined AS EXECUTE q", READ),
    attack("explained", f"EXPLAIN ANALYZE CREATE TABLE attack_defined AS SELECT {LAST}", READ),
    attack("replaced", "CREATE OR REPLACE VIEW attack_swap AS SELECT id, reverse(last_name) AS v FROM patients",
           "SELECT v FROM attack_swap WHERE id = 900001"),
    attack("condition", "CREATE TABLE attack_defined AS SELECT 'n1'::text AS x FROM patients WHERE ssn = '536-71-9284'",
           READ, leaks=("n1",)),
    attack("condition-in-view",
           "CREATE VIEW attack_defined AS SELECT 'at-' || id AS x FROM patients WHERE ssn LIKE '536-71-928%'",
           READ, leaks=("at-900001",)),
    attack("order", "CREATE TABLE attack_defined AS SELECT 'at-' || id AS x FROM patients "
           "ORDER BY ssn = '536-71-9284' DESC LIMIT 1", READ, leaks=("at-900001",)),
    attack("counted", "CREATE TABLE attack_defined AS SELECT 'n' || count(*) AS x FROM patients "
           "WHERE ssn IN ('536-71-9284')", READ, leaks=("n1",)),
]  # fmt: skip


def maker(stack: Stack) -> Target:
    return gateway_target(stack, connection="bare", agent="attack-maker")


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_nothing_is_defined_over_a_protected_column(arena: Arena, stack: Stack, each: Attack, mode: Mode) -> None:
    control = play(arena.owner, each, mode, rehearsal=True)
    assert found(control.received, each.leaks), f"the control leaks nothing: {control.errors}"

    answer = play(maker(stack), each, mode, rehearsal=False)

    assert found(answer.received, each.leaks) == [], describe(answer)


@pytest.mark.e2e
def test_what_is_made_of_unprotected_columns_needs_nobody(arena: Arena, stack: Stack) -> None:
    steps = [
        "CREATE TABLE attack_plain AS SELECT id, sex::text AS s FROM patients WHERE id = 900001",
        "CREATE VIEW attack_plain_view (a) AS SELECT s FROM attack_plain",
        "SELECT id AS one INTO attack_plain_too FROM attack_plain",
        "CREATE MATERIALIZED VIEW attack_plain_kept AS SELECT max(id) AS m FROM attack_plain",
        "SELECT a FROM attack_plain_view",
        "SELECT m FROM attack_plain_kept",
    ]
    try:
        answer = play(maker(stack), attack("plain", *steps), Mode.SIMPLE, rehearsal=False)
    finally:
        with Wire(arena.owner) as owner:
            owner.simple("DROP MATERIALIZED VIEW IF EXISTS attack_plain_kept")
            owner.simple("DROP VIEW IF EXISTS attack_plain_view")
            owner.simple("DROP TABLE IF EXISTS attack_plain, attack_plain_too")

    assert answer.tags == ["SELECT 1", "CREATE VIEW", "SELECT 1", "SELECT 1", "SELECT 1", "SELECT 1"], describe(answer)
    assert answer.rows == [(b"F",), (b"900001",)]
