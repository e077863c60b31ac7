"""Code of the database that runs on an attacker's behalf, where no policy stands behind the rules.

Some of it a person classified (`bare.yaml`): `attack_label` and `attack_fixed` read words nobody protects. Whoever can
make them read something else, or run other code under that word, would get it unmasked.
"""

# ruff: noqa: E501 - a statement on one line reads better than one broken by quotes

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.bypass.attack import SIMPLE_ONLY, Arena, Attack, Mode, assert_contained, attack, case_id, describe, play
from tests.bypass.canary import found
from tests.bypass.test_temporary import turns
from tests.bypass.wire import Answer, Wire
from tests.stack import Stack

CODED = "SELECT 1 AS id, reverse(last_name) AS word FROM patients WHERE id = 900001"  # known to no detector
CALLED = "SELECT attack_label(1)"

REDIRECTED = [
    attack("shadowed-by-temporary", f"CREATE TEMP TABLE attack_words AS {CODED}", CALLED),
    attack("shadowed-by-temporary-view", f"CREATE TEMP VIEW attack_words AS {CODED}", CALLED),
    attack("shadowed-after-a-call", CALLED, f"CREATE TEMP TABLE attack_words AS {CODED}", CALLED),
    attack("shadowed-under-prepared", f"PREPARE q AS {CALLED}", "EXECUTE q", f"CREATE TEMP TABLE attack_words AS {CODED}",
           "EXECUTE q", "DEALLOCATE ALL"),
    attack("shadowed-in-transaction", "BEGIN", f"CREATE TEMP TABLE attack_words ON COMMIT DROP AS {CODED}", CALLED, "ROLLBACK"),
    attack("elsewhere-by-path", "SET search_path = attack_shadow, public", CALLED),
    attack("elsewhere-by-path-locally", "BEGIN", "SET LOCAL search_path = attack_shadow, public", CALLED, "ROLLBACK"),
    attack("elsewhere-by-path-at-start", CALLED, options=(("options", "-c search_path=attack_shadow,public"),)),
    attack("overload", "SELECT attack_label('1'::text)"),
]  # fmt: skip

RUNS = [
    attack("policy", "SELECT note FROM attack_guarded"),
    attack("policy-counted", "SELECT count(*) FROM attack_guarded"),
    attack("policy-explained", "EXPLAIN ANALYZE SELECT note FROM attack_guarded"),
    attack("policy-copied", "COPY attack_guarded TO STDOUT", modes=SIMPLE_ONLY),
    attack("check", "INSERT INTO attack_checked VALUES (1, 'a')"),
    attack("check-updated", "UPDATE attack_checked SET note = note"),
    attack("check-copied", "COPY attack_checked FROM STDIN", copy_in=b"2\tb\n", modes=SIMPLE_ONLY),
    attack("check-merged", "MERGE INTO attack_checked c USING (VALUES (9)) v(i) ON c.id = v.i "
           "WHEN NOT MATCHED THEN INSERT VALUES (9, 'z')"),
    attack("index-expression", "INSERT INTO attack_indexed VALUES (1)"),
    attack("index-expression-updated", "UPDATE attack_indexed SET id = id + 1"),
    attack("instead-of", "INSERT INTO attack_instead VALUES (1)"),
    attack("instead-of-updated", "UPDATE attack_instead SET id = 2"),
    attack("rule-also", "UPDATE attack_ruled_also SET id = 1", modes=SIMPLE_ONLY),
    attack("cast", "SELECT ROW(900001)::attack_pair::text"),
    attack("cast-assigned", "CREATE TEMP TABLE k (x text)", "INSERT INTO k SELECT ROW(900001)::attack_pair", "SELECT x FROM k"),
    attack("cast-to-json", "SELECT to_json('calm'::attack_mood)"),
    attack("cast-to-json-in-a-row", "SELECT row_to_json(r) FROM (SELECT 'calm'::attack_mood AS m) r"),
    attack("cast-to-json-collected", "SELECT json_agg(m) FROM unnest(ARRAY['calm'::attack_mood]) m"),
    attack("cast-to-json-constructed", "SELECT JSON_ARRAY('calm'::attack_mood)"),
    attack("cast-to-json-of-a-column", "CREATE TEMP TABLE k AS SELECT 'calm'::attack_mood AS m", "SELECT to_jsonb(k) FROM k"),
    attack("cast-by-joining", "SELECT reverse('x' || ROW(900001)::attack_pair)"),
    attack("cast-by-joining-before", "SELECT reverse(ROW(900001)::attack_pair || 'x'::text)"),
    attack("cast-by-quoting", "SELECT reverse(quote_literal(ROW(900001)::attack_pair))"),
    attack("cast-by-quoting-null", "SELECT reverse(quote_nullable(ROW(900001)::attack_pair))"),
    attack("cast-in-function", "SELECT text(ROW(900001)::attack_pair)"),
    attack("domain-in-temporary", "CREATE TEMP TABLE k (x attack_domain)", "INSERT INTO k VALUES ('a')"),
    attack("domain-parameter", "PREPARE q(attack_domain) AS SELECT 1", "EXECUTE q('a')", "DEALLOCATE ALL"),
    attack("domain-array", "SELECT '{a}'::attack_domain[]"),
    attack("domain-out-of-json", "SELECT * FROM json_to_record('{\"a\": \"x\"}') AS r(a attack_domain)"),
    attack("domain-in-composite", "SELECT '(a)'::attack_nested"),
    attack("domain-in-composite-parameter", "PREPARE q(attack_nested) AS SELECT 1", "EXECUTE q('(a)')", "DEALLOCATE ALL"),
    attack("domain-in-composite-column", "CREATE TEMP TABLE k (x attack_nested)", "COPY k FROM STDIN", copy_in=b"(a)\n", modes=SIMPLE_ONLY),
    attack("domain-in-populated", "SELECT json_populate_record(NULL::attack_nested, '{\"word\": \"a\"}')"),
    attack("domain-returned-by-json", "SELECT JSON_VALUE(jsonb '{\"a\": \"x\"}', '$.a' RETURNING attack_domain)"),
    attack("failing-while-it-is-read", "SELECT '(a)'::attack_named"),
    attack("failing-while-it-is-read-array", "SELECT '{a}'::attack_name[]"),
    attack("failing-while-it-is-read-explained", "EXPLAIN SELECT '(a)'::attack_named"),
    attack("failing-while-it-is-read-prepared", "PREPARE q AS SELECT '(a)'::attack_named"),
    attack("failing-while-it-is-read-argument", "PREPARE q(int) AS SELECT 1", "EXECUTE q(('{a}'::attack_name[])[1]::int)"),
    attack("failing-while-it-is-read-beside-temporary", "CREATE TEMP TABLE k (n int)", "SELECT '(a)'::attack_named", "SELECT 1 FROM k"),
    attack("domain-by-try", "SELECT pg_input_is_valid('a', 'attack_domain')"),
    attack("procedure-by-do", "DO $$ DECLARE a text; BEGIN CALL attack_procedure(a); RAISE NOTICE '%', a; END $$"),
    attack("view-with-function", "SELECT id FROM attack_view_coded WHERE id = 900001"),
    attack("order-by-function", "SELECT 1 ORDER BY attack_shout(900001)"),
    attack("limit-by-function", "SELECT 1 LIMIT attack_shout(900001)"),
    attack("default-by-keyword", "INSERT INTO attack_default VALUES (1, DEFAULT) RETURNING note"),
    attack("default-by-update", "INSERT INTO attack_default VALUES (3, 'x')",
           "UPDATE attack_default SET note = DEFAULT RETURNING note"),
    attack("default-values", "INSERT INTO attack_default DEFAULT VALUES RETURNING note"),
    attack("default-by-cte", "WITH i AS (INSERT INTO attack_default (id) VALUES (1) RETURNING note) SELECT * FROM i"),
    attack("statement-trigger", "DELETE FROM attack_watched WHERE false"),
    attack("truncate-trigger", "TRUNCATE attack_watched"),
    attack("cascade-trigger", "INSERT INTO attack_watched VALUES (1)", "DELETE FROM attack_watched"),
    attack("partition-trigger", "INSERT INTO attack_split VALUES (1)"),
    attack("inherited-policy", "SELECT * FROM ONLY attack_guarded"),
    attack("aggregate-of-users", "SELECT attack_glue(ssn) FILTER (WHERE true) FROM patients WHERE id = 900001"),
    attack("operator-any", "SELECT 1 WHERE 900001 OPERATOR(attack_shadow.~!~) 1"),
    attack("set-returning", "SELECT * FROM ROWS FROM (attack_rows(), generate_series(1, 2))"),
    attack("support-of-a-range", "SELECT attack_range(900001, 900002)::text || attack_lookup(900001)"),
]  # fmt: skip

ATTACKS: list[Attack] = REDIRECTED + RUNS


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_hidden_code_discloses_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM attack_upper WHERE id = 1",
        "UPDATE attack_upper SET id = 2 WHERE id = 1",
        "MERGE INTO attack_upper u USING (SELECT 1 AS one) s ON u.id = s.one WHEN MATCHED THEN DELETE",
        "INSERT INTO attack_upper VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2",
        "INSERT INTO attack_keyed_by VALUES (1)",
        "INSERT INTO attack_filled (id) VALUES (1)",
        "INSERT INTO attack_filled DEFAULT VALUES",
        "INSERT INTO attack_filled (id, word) VALUES (1, NULL)",
        "MERGE INTO attack_filled USING (SELECT 1) s ON false WHEN NOT MATCHED THEN INSERT (id) VALUES (1)",
    ],
)
def test_code_behind_a_key_or_a_domain_does_not_run_unseen(arena: Arena, sql: str) -> None:
    control = play(arena.direct, attack("control", sql), Mode.SIMPLE, rehearsal=True)
    assert found(control.received) == ["ssn"], "nothing ran, so the test proves nothing"

    answer = play(arena.bare, attack("behind", sql), Mode.SIMPLE, rehearsal=False)

    assert answer.refused, describe(answer)


@pytest.mark.e2e
@pytest.mark.parametrize("call", ["SELECT attack_label(1)", "SELECT attack_fixed(1)"])
def test_classified_function_answers_whole(arena: Arena, call: str) -> None:
    answer = play(arena.bare, attack("call", call), Mode.EXTENDED_TEXT, rehearsal=False)

    assert answer.rows == [(b"plain",)], describe(answer)


@pytest.mark.e2e
def test_function_with_a_path_of_its_own_answers_beside_temporary_tables(arena: Arena) -> None:
    made = "CREATE TEMP TABLE attack_words (id int, word text)"
    answer = play(arena.bare, attack("call", made, "SELECT attack_fixed(1)"), Mode.SIMPLE, rehearsal=False)

    assert answer.rows == [(b"plain",)], describe(answer)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("replaced", "CREATE OR REPLACE FUNCTION attack_label(integer) RETURNS text LANGUAGE plpgsql STABLE AS "
         "'BEGIN RETURN (SELECT reverse(last_name) FROM patients WHERE id = 900001); END'"),
        ("behind", "CREATE OR REPLACE FUNCTION attack_words_of(integer) RETURNS text LANGUAGE sql STABLE AS "
         "'SELECT reverse(last_name) FROM patients WHERE id = 900001'"),
        ("moved", "ALTER FUNCTION attack_label(integer) SET search_path = attack_shadow, public"),
    ],
)  # fmt: skip
@pytest.mark.by_turns(3)
def test_code_that_is_replaced_ends_a_persons_word(
    arena: Arena, stack: Stack, name: str, code: str, planted_again: Callable[[], None]
) -> None:
    def replace(_: Wire, __: Mode) -> Answer:
        with Wire(arena.owner) as owner:
            return owner.simple(code)

    swapped = attack(name, CALLED, replace, "SELECT pg_sleep(2.1)", CALLED, transaction=False)
    try:
        control = play(arena.direct, swapped, Mode.SIMPLE, rehearsal=True)
        planted_again()
        answer = play(arena.bare, swapped, Mode.SIMPLE, rehearsal=False)
    finally:
        planted_again()

    assert found(control.received) == ["last_name reversed"]
    assert (b"plain",) in answer.rows, "the word did not hold before, so the test proves nothing"
    assert found(answer.received) == [], describe(answer)


@pytest.fixture
def planted_again(stack: Stack) -> Callable[[], None]:
    from tests.bypass.conftest import plant

    def again() -> None:
        with psycopg.connect(stack.superuser_dsn(str(stack.demo["upstream"]["database"])), autocommit=True) as owner:
            plant(owner)

    return again


@pytest.mark.e2e
def test_command_lists_functions_with_the_digests_that_hold(arena: Arena, stack: Stack) -> None:
    listed = stack.manage("functions", "bare", "--agent", "attack-bare")

    assert listed.returncode == 0, listed.stderr
    holds = stack.manage("export").stdout
    words = [line for line in listed.stdout.splitlines() if line.startswith("public.attack_fixed(int4) = ")]
    assert words
    assert words[0].split()[2].rstrip(":") in holds
