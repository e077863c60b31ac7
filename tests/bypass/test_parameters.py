"""Parameters that are of another type to the server than to whoever reads the statement: what is called follows types.

The server fixes them when it parses: by OID where the client says so, by inference else, and keeps them whatever names
mean later. Each case that asks is played with a right and a wrong guess in place of `{}`, as in `test_telling`.
"""

from __future__ import annotations

import pytest

from tests.bypass.attack import Arena, Attack, Mode, Step, assert_contained, attack, case_id, describe, play
from tests.bypass.test_inference import visible
from tests.bypass.wire import SYNC, Answer, Target, bind, describe_portal, execute, parse

TEXT, FLOAT = 25, 701  # pg_type.dat
QUERY = b"SELECT ssn FROM patients WHERE id = 900001"
WORDS = b"SELECT to_tsvector('simple', last_name) FROM patients WHERE id = 900001"
# sum() of integers never overflows, that of floats does. To see an integer in $1 one has to believe its first use.
SUMMED = (
    "WITH w AS (SELECT v + $1 AS o FROM k) SELECT sum((ARRAY[$1])[strpos(ssn, '{}')]), (SELECT count(*) FROM w) "
    "FROM patients, generate_series(1, 2) g WHERE patients.id = 900001"
)
OF_INTEGERS = SUMMED.replace("v + $1 AS o FROM k", "id + $1 AS o FROM encounters WHERE id = 900001")
RIGHT, WRONG = "5", "6"  # what the number begins with: then it is the first element that is summed, else none
FLOATS, INTEGERS = "CREATE TEMP TABLE k (v float8)", "CREATE TEMP TABLE k (v integer)"
MEASURED = f"EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) {OF_INTEGERS}"
LARGE = b"1e308"


def run(text: str, value: bytes, *, types: tuple[int, ...] = ()) -> Step:
    return lambda wire, _: wire.request(parse(text, types=types) + _run(value))


def made(text: str) -> Step:
    return lambda wire, _: wire.request(parse(text, name="s") + SYNC)


def run_made(value: bytes) -> Step:
    return lambda wire, _: wire.request(_run(value, statement="s"))


def _run(value: bytes, *, statement: str = "") -> bytes:
    return bind([value], statement=statement) + describe_portal() + execute() + SYNC


# A temporary table is found before PostgreSQL's own type of its name, and `f(x)` is a column `f` where x is its row.
SHADOWED = [
    attack(
        "code",
        "CREATE TEMP TABLE text (attack_dynamic pg_catalog.text)",
        run('SELECT attack_dynamic($1), (SELECT t.attack_dynamic FROM pg_temp."text" t)', QUERY, types=(TEXT,)),
    ),
    attack(
        "code-inferred",
        "CREATE TEMP TABLE unknown (attack_dynamic pg_catalog.text)",
        run('SELECT attack_dynamic($1), (SELECT t.attack_dynamic FROM pg_temp."unknown" t)', QUERY),
    ),
    attack(
        "built-in",
        "CREATE TEMP TABLE text (ts_stat pg_catalog.text)",
        run('SELECT ts_stat($1), (SELECT t.ts_stat FROM pg_temp."text" t)', WORDS, types=(TEXT,)),
        leaks=("quixandrel",),
    ),
]


def asking(guess: str) -> list[Attack]:
    summed, of_integers, measured = (text.replace("{}", guess) for text in (SUMMED, OF_INTEGERS, MEASURED))
    return [
        attack("explained", run(measured, LARGE, types=(FLOAT,))),
        attack("declared", "BEGIN", run(f"DECLARE c CURSOR FOR {of_integers}", LARGE, types=(FLOAT,)), "FETCH ALL c"),
        attack("inferred-before", FLOATS, made(summed), "DROP TABLE k", INTEGERS, run_made(LARGE)),
        attack("prepared-before", FLOATS, f"PREPARE s AS {summed}", "DROP TABLE k", INTEGERS, "EXECUTE s(1e308)"),
    ]


@pytest.mark.e2e
@pytest.mark.parametrize("each", SHADOWED, ids=case_id)
def test_a_table_named_like_a_type_is_not_the_type_of_a_parameter(arena: Arena, each: Attack) -> None:
    assert_contained(arena, each, Mode.EXTENDED_TEXT, at=arena.bare)


@pytest.mark.e2e
@pytest.mark.parametrize(("right", "wrong"), list(zip(asking(RIGHT), asking(WRONG), strict=True)), ids=case_id)
def test_parameters_are_read_with_the_types_the_server_keeps(arena: Arena, right: Attack, wrong: Attack) -> None:
    control = [visible(_tried(arena.direct, each, rehearsal=True)) for each in (right, wrong)]
    assert control[0] != control[1], f"the control cannot tell the guesses apart: {control[0]}"

    told = [_tried(arena.bare, each, rehearsal=False) for each in (right, wrong)]

    assert all(answer.refused for answer in told), " / ".join(map(describe, told))


def _tried(target: Target, each: Attack, *, rehearsal: bool) -> Answer:
    return play(target, each, Mode.SIMPLE, rehearsal=rehearsal)


ORDINARY = [
    attack("explained", run("EXPLAIN SELECT kind FROM encounters WHERE id = $1", b"900001", types=(23,))),
    attack("declared", "BEGIN", run("DECLARE c CURSOR FOR SELECT $1 || kind FROM encounters WHERE id = 900001", b"x",
           types=(TEXT,)), "FETCH c"),
    attack("other-type", FLOATS, made("SELECT v + $1 FROM k"), run_made(b"1.5"), "DROP TABLE k", INTEGERS,
           run_made(b"1.5"), run_made(b"1.5")),
    attack("row-of-a-temporary", "CREATE TEMP TABLE pair (a int, b text)", made("SELECT $1::pair"), run_made(b"(1,x)")),
    attack("array", "CREATE TEMP TABLE l (w text[])", made("SELECT $1 || w FROM l"), run_made(b"{a}")),
]  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize("each", ORDINARY, ids=case_id)
def test_ordinary_parameters_are_read(arena: Arena, each: Attack) -> None:
    answer = play(arena.bare, each, Mode.SIMPLE, rehearsal=False)

    assert (answer.errors, answer.review_url) == ([], None), describe(answer)
