"""What few statements use: tables of several parents, columns computed on reading, samples, frames, contrib's types.

Played where no policy stands behind the rules. Each attack differs from the others by the statement, not the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
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
from tests.stack import Stack

P = "FROM patients WHERE id = 900001"
LAST = f"(SELECT last_name {P})"
DIGIT = f"(SELECT substr(ssn, 1, 1)::int {P})"

# The rows of `attack_grandchild` are patients; its other parent is no relative of them, but for this child.
FAMILIES = [
    attack("child", "SELECT reverse(last_name) FROM attack_child"),
    attack("grandchild", "SELECT reverse(last_name) FROM ONLY attack_grandchild"),
    attack("other-parent", "SELECT reverse(last_name) FROM attack_uncle"),
    attack("other-parent-row", "SELECT reverse((u).last_name) FROM attack_uncle u"),
    attack("other-parent-document", "SELECT reverse(to_jsonb(u) ->> 'last_name') FROM attack_uncle u"),
    attack("other-parent-updated", "UPDATE attack_uncle SET id = id RETURNING reverse(last_name)"),
    attack("other-parent-carried", "CREATE TEMP TABLE k AS SELECT reverse(last_name) AS x FROM attack_uncle",
           "SELECT x FROM k"),
    attack("other-parent-asked", "SELECT 'n' || count(*) FROM attack_uncle WHERE last_name LIKE 'Quix%'",
           leaks=("n1",)),
    attack("parent-of-the-protected", "SELECT reverse(last_name) FROM attack_elder WHERE id = 900001"),
    attack("parent-of-the-protected-joined",
           "SELECT reverse(e.last_name) FROM attack_elder e JOIN encounters USING (id)"),
    attack("row-cast-to-a-parent", "SELECT reverse((c::patients).last_name) FROM attack_child c"),
]  # fmt: skip

WRITTEN = [
    attack("returning-old-row", f"UPDATE patients SET state = state WHERE id = 900001 RETURNING old, {LAST}"),
    attack("returning-named", "UPDATE patients SET state = state WHERE id = 900001 "
           "RETURNING WITH (OLD AS o, NEW AS n) reverse(o.last_name), n.id"),
    attack("merge-returning-old", "MERGE INTO patients p USING (VALUES (900001)) v(i) ON p.id = v.i "
           "WHEN MATCHED THEN UPDATE SET state = p.state RETURNING merge_action(), reverse(old.last_name)"),
    attack("merge-told-by-its-branch", f"MERGE INTO attack_open USING (SELECT * {P}) p ON false "
           "WHEN NOT MATCHED AND p.ssn LIKE '536%' THEN INSERT (id) VALUES (5)", leaks=("MERGE 1",)),
    attack("computed-on-reading", f"INSERT INTO attack_virtual (id, x) SELECT 1, last_name {P}",
           "SELECT turned FROM attack_virtual"),
    attack("computed-on-returning", f"INSERT INTO attack_virtual (id, x) SELECT 1, last_name {P} RETURNING turned"),
    attack("routed-by-value", f"INSERT INTO attack_routed SELECT last_name {P} RETURNING tableoid::regclass",
           leaks=("attack_routed_one",), modes=SIMPLE_ONLY),
    attack("cursor-current-of", "BEGIN", f"DECLARE c CURSOR FOR SELECT id {P} FOR UPDATE", "FETCH c",
           "UPDATE patients SET state = state WHERE CURRENT OF c RETURNING reverse(last_name)", "ROLLBACK"),
    attack("cursor-held-backward", "BEGIN",
           f"DECLARE h BINARY SCROLL CURSOR WITH HOLD FOR SELECT reverse(last_name) {P}",
           "COMMIT", "MOVE ALL h", "FETCH BACKWARD 1 FROM h", transaction=False),
    attack("copied-materialised", "COPY attack_matview TO STDOUT", modes=SIMPLE_ONLY),
    attack("copied-merge",
           f"COPY (MERGE INTO encounters e USING (SELECT last_name {P}) p ON e.id = 900001 "
           "WHEN MATCHED THEN UPDATE SET status = e.status RETURNING reverse(p.last_name)) TO STDOUT",
           modes=SIMPLE_ONLY),
]  # fmt: skip

STEERED = [
    attack("sample", f"SELECT 'n' || count(*) FROM encounters TABLESAMPLE BERNOULLI ({DIGIT} * 20) WHERE id = 900001",
           leaks=("n1",)),
    attack("offset", f"SELECT g FROM generate_series(1, 9) g OFFSET {DIGIT}", leaks=("SELECT 4",)),
    attack("frame", "SELECT 'm' || max(c) FROM (SELECT count(*) OVER (ORDER BY g ROWS "
           f"{DIGIT} PRECEDING) c FROM generate_series(1, 20) g) x", leaks=("m6",)),
    attack("hypothetical-rank", f"SELECT 'r' || rank('536-71-9284') WITHIN GROUP (ORDER BY ssn) {P}", leaks=("r1",)),
    attack("removed-as-equal", f"SELECT 'n' || count(*) FROM (SELECT last_name {P} UNION SELECT 'Quixandrel') x",
           leaks=("n1",)),
    attack("cycle-found", f"WITH RECURSIVE r(s) AS (SELECT last_name {P} UNION ALL SELECT 'Quixandrel' FROM r) "
           "CYCLE s SET met TO 'met' DEFAULT 'new' USING path SELECT 'c-' || met FROM r", leaks=("c-met",)),
    attack("written-out", f"EXPLAIN (ANALYZE, SERIALIZE, COSTS off) SELECT repeat('x', 1024 * ascii(last_name)) {P}",
           leaks=("output=82kB",)),
    attack("json-passed", f"SELECT JSON_VALUE(jsonb '1', '$x' PASSING reverse({LAST}) AS x)"),
    attack("json-otherwise", f"SELECT JSON_VALUE(jsonb '1', '$.z' DEFAULT reverse({LAST}) ON EMPTY)"),
    attack("grouped-by-distinct-sets", f"SELECT r FROM (SELECT reverse(last_name) r {P}) x GROUP BY DISTINCT CUBE (r)"),
    attack("unnested-ranges", f"SELECT lower(unnest(datemultirange(daterange(dob, NULL)))) {P}"),
]  # fmt: skip

CONTRIB = [
    attack("hstore-of-a-row", "SELECT reverse(attack_contrib.hstore(p) OPERATOR(attack_contrib.->) 'last_name') "
           "FROM patients p WHERE id = 900001"),
    attack("hstore-into-a-row", "SELECT p OPERATOR(attack_contrib.#=) "
           "attack_contrib.hstore('city', reverse(last_name)) FROM patients p WHERE id = 900001"),
    attack("citext", f"SELECT reverse(last_name::attack_contrib.citext::text) {P}"),
    attack("citext-asked", f"SELECT 'n' || count(*) {P} "
           "AND last_name::attack_contrib.citext OPERATOR(attack_contrib.=) 'QUIXANDREL'", leaks=("n1",)),
]  # fmt: skip

ATTACKS: list[Attack] = FAMILIES + WRITTEN + STEERED + CONTRIB

_GONE = """
DROP SCHEMA IF EXISTS attack_contrib CASCADE;
DROP TABLE IF EXISTS attack_child, attack_grandchild, attack_uncle, attack_virtual, attack_routed CASCADE;
DO $$ BEGIN ALTER TABLE patients NO INHERIT attack_elder; EXCEPTION WHEN undefined_table THEN NULL; END $$;
DROP TABLE IF EXISTS attack_elder
"""
_MADE = """
CREATE SCHEMA attack_contrib;
CREATE EXTENSION hstore SCHEMA attack_contrib;
CREATE EXTENSION citext SCHEMA attack_contrib;
CREATE TABLE attack_elder (last_name text NOT NULL, id integer NOT NULL);
ALTER TABLE patients INHERIT attack_elder;
CREATE TABLE attack_child (own text) INHERITS (patients);
CREATE TABLE attack_uncle (foo text, id integer, last_name text);
CREATE TABLE attack_grandchild () INHERITS (attack_uncle, attack_child);
INSERT INTO attack_child SELECT * FROM ONLY patients WHERE id = 900001;
UPDATE attack_child SET id = 900077;
INSERT INTO attack_grandchild (id, mrn, first_name, last_name, ssn, dob, sex, email, phone, address, city, state, zip,
    active, registered_at) SELECT * FROM ONLY patients WHERE id = 900001;
UPDATE attack_grandchild SET id = 900078;
CREATE TABLE attack_virtual (id integer, x text, turned text GENERATED ALWAYS AS (reverse(x)) VIRTUAL);
CREATE TABLE attack_routed (x text) PARTITION BY LIST (x);
CREATE TABLE attack_routed_one PARTITION OF attack_routed FOR VALUES IN ('Quixandrel');
CREATE TABLE attack_routed_rest PARTITION OF attack_routed DEFAULT;
GRANT USAGE ON SCHEMA attack_contrib TO PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON attack_elder, attack_child, attack_uncle, attack_grandchild, attack_virtual,
    attack_routed, attack_routed_one, attack_routed_rest TO PUBLIC;
"""


@pytest.fixture(scope="module", autouse=True)
def uncommon(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a database that has grown for years may have; `patients` is as it was afterwards."""
    stack: Stack = request.getfixturevalue("stack")
    request.getfixturevalue("arena")
    with psycopg.connect(stack.superuser_dsn(str(stack.demo["upstream"]["database"])), autocommit=True) as owner:
        owner.execute("SET client_min_messages = warning")
        owner.execute(_GONE)
        owner.execute(_MADE)
        yield
        owner.execute(_GONE)


@pytest.mark.e2e
@pytest.mark.parametrize(("each", "mode"), turns(ATTACKS), ids=case_id)
@pytest.mark.by_turns(2)
def test_what_few_use_discloses_no_canary(arena: Arena, each: Attack, mode: Mode) -> None:
    assert_contained(arena, each, mode, at=arena.bare)


@pytest.mark.e2e
def test_other_parent_of_a_protected_child_shows_what_is_not_protected(arena: Arena) -> None:
    answer = play(
        arena.bare, attack("read", "SELECT id, foo, last_name FROM attack_uncle"), Mode.SIMPLE, rehearsal=False
    )

    assert answer.rows == [(b"900078", None, b"[REDACTED]")], describe(answer)
