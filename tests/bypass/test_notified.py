"""Notifications in the hands of an agent who may listen, where a rule shows payloads to the detectors alone.

What reaches a payload must not be a protected value, by whichever statement it is sent: detectors find an identifier
as it is written, not turned round.
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

LISTEN = "LISTEN attack"
SSN = "(SELECT ssn FROM patients WHERE id = 900001)"
TURNED = "(SELECT reverse(last_name) FROM patients WHERE id = 900001)"


def sent(name: str, *steps: str, modes: tuple[Mode, ...] | None = None, copy_in: bytes = b"") -> Attack:
    more = {} if modes is None else {"modes": modes}
    return attack(name, LISTEN, *steps, "SELECT 1", transaction=False, copy_in=copy_in, **more)


ATTACKS = [
    sent("function", "SELECT count(pg_notify('attack', ssn)) FROM patients WHERE id = 900001"),
    sent("turned-round", "SELECT count(pg_notify('attack', reverse(last_name))) FROM patients WHERE id = 900001"),
    sent("document", "SELECT count(pg_notify('attack', to_jsonb(p)::text)) FROM patients p WHERE id = 900001"),
    sent("qualified", f"SELECT pg_catalog.pg_notify('attack', {TURNED})"),
    sent("quoted", f"""SELECT "pg_notify"('attack', {TURNED})"""),
    sent("unicode", f"""SELECT U&"pg\\005fnotify"('attack', {TURNED})"""),
    sent("commented", f"SELECT pg_notify/**/('attack', {TURNED}) -- x"),
    sent("subquery", f"SELECT 1 WHERE (SELECT count(pg_notify('attack', {TURNED}))) > 0"),
    sent("cte", f"WITH w AS MATERIALIZED (SELECT pg_notify('attack', {TURNED}) AS n) SELECT count(n) FROM w"),
    sent("from", f"SELECT count(*) FROM pg_notify('attack', {TURNED})"),
    sent("prepared", f"PREPARE n AS SELECT pg_notify('attack', {TURNED})", "EXECUTE n"),
    sent("cursor", f"BEGIN; DECLARE c CURSOR FOR SELECT pg_notify('attack', {TURNED}); FETCH c; COMMIT",
         modes=SIMPLE_ONLY),
    sent("copied", f"COPY (SELECT pg_notify('attack', {TURNED})) TO STDOUT", modes=SIMPLE_ONLY),
    sent("explained", f"EXPLAIN ANALYZE SELECT pg_notify('attack', {TURNED})"),
    sent("block", f"DO $$ BEGIN PERFORM pg_notify('attack', {TURNED}); END $$"),
    sent("block-executing", f"DO $$ BEGIN EXECUTE format('NOTIFY attack, %L', {TURNED}); END $$"),
    sent("temporary", "CREATE TEMP TABLE k AS SELECT reverse(last_name) AS x FROM patients WHERE id = 900001",
         "SELECT pg_notify('attack', x) FROM k", "DROP TABLE k"),
    sent("returning", "CREATE TEMP TABLE k (x text)",
         f"INSERT INTO k VALUES ({TURNED}) RETURNING pg_notify('attack', x)", "DROP TABLE k"),
    sent("channel", f"SELECT pg_notify(left('attack', 6), {TURNED})"),
    sent("trigger", "INSERT INTO attack_noticed VALUES (1)"),
    sent("trigger-updating", "UPDATE attack_noticed SET id = 2"),
    sent("trigger-deleting", "DELETE FROM attack_noticed"),
    sent("trigger-truncating", "TRUNCATE attack_noticed"),
    sent("trigger-in-cte", "WITH w AS (INSERT INTO attack_noticed VALUES (1) RETURNING id) SELECT * FROM w"),
    sent("trigger-prepared", "PREPARE t AS INSERT INTO attack_noticed VALUES (1)", "EXECUTE t"),
    sent("trigger-explained", "EXPLAIN ANALYZE INSERT INTO attack_noticed VALUES (1)"),
    sent("trigger-at-commit", "BEGIN", "INSERT INTO attack_noticed_late VALUES (1)", "COMMIT"),
    sent("trigger-at-commit-alone", "INSERT INTO attack_noticed_late VALUES (1)"),
    sent("trigger-at-once", "BEGIN", "INSERT INTO attack_noticed_late VALUES (1)", "SET CONSTRAINTS ALL IMMEDIATE",
         "COMMIT"),
    sent("trigger-copying", "COPY attack_noticed FROM STDIN", modes=SIMPLE_ONLY, copy_in=b"1\n"),
    sent("rule", "INSERT INTO attack_noticed_rule VALUES (1)"),
    sent("default", "INSERT INTO attack_noticed_default (id) VALUES (1)"),
    sent("default-copied", "COPY attack_noticed_default (id) FROM STDIN", modes=SIMPLE_ONLY, copy_in=b"1\n"),
    sent("definer", "SELECT attack_tell()"),
    sent("definer-in-from", "SELECT count(*) FROM attack_tell()"),
    sent("definer-copied", "COPY (SELECT attack_tell()) TO STDOUT", modes=SIMPLE_ONLY),
    sent("parsed", "SELECT attack_tell_parsed()"),
    sent("parsed-told", f"SELECT attack_tell_first('attack', {TURNED})"),
    sent("view", "SELECT told FROM attack_telling WHERE id = 900001"),
    sent("view-counted", "SELECT count(told) FROM attack_telling WHERE id = 900001"),
    sent("view-copied", "COPY (SELECT told FROM attack_telling WHERE id = 900001) TO STDOUT", modes=SIMPLE_ONLY),
    sent("long", f"SELECT count(pg_notify('attack', repeat('x ', 3900) || {TURNED}))"),
    sent("widest", f"SELECT count(pg_notify('attack', repeat(chr(128169), 1900) || {TURNED}))"),
    sent("in-parts", "SELECT count(pg_notify('attack', substr(reverse(last_name), 1, 30))) FROM patients "
         "WHERE id = 900001"),
    attack("channel-as-guess", 'LISTEN "536-71-9284"', "SELECT count(pg_notify(ssn, 'x')) FROM patients "
           "WHERE id = 900001", "SELECT 1", transaction=False),
    attack("channel-quoted", 'LISTEN "at""tack"', f"SELECT count(pg_notify('at\"tack', {TURNED}))", "SELECT 1",
           transaction=False),
    attack("channel-as-path", 'LISTEN "attack.payload"', f"SELECT count(pg_notify('attack.payload', {TURNED}))",
           "SELECT 1", transaction=False),
    sent("at-once", f"LISTEN other; SELECT pg_notify('other', {TURNED})", modes=SIMPLE_ONLY),
]  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_no_notification_carries_a_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)


@pytest.mark.e2e
def test_control_what_an_agent_writes_itself_is_heard(arena: Arena) -> None:
    answer = play(
        arena.bare,
        attack("heard", LISTEN, "NOTIFY attack, 'order number seven'", "SELECT 1", transaction=False),
        Mode.SIMPLE,
        rehearsal=False,
    )

    assert b"order number seven" in answer.received, describe(answer)
