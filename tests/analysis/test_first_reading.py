"""The first reading alone: what sqlglot is given to read, and what it makes of it."""

from __future__ import annotations

import gc
import random

import pytest
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres

from analysis import parse
from analysis.lexer import LexError, tokenize
from analysis.parse import MAX_DEPTH, ClientReading, _spelled_out, depth_of, is_too_deep, read_client
from tests.analysis.cases import INCOMPLETE, ORDINARY, OUTPUTS, PREDICATES
from tests.analysis.turns import counting_turns

MANY = ", ".join(map(str, range(5_000)))


@pytest.mark.parametrize(
    "form",
    [
        "SELECT id, ssn FROM patients WHERE id IN ({}) AND zip IN (SELECT z FROM claims)",
        "DELETE FROM claims WHERE id NOT IN ({})",
        "WITH d AS (UPDATE claims SET x = 1 WHERE id IN ( {} ) RETURNING id) SELECT * FROM d, patients",
        "SELECT 1 IN ({}), ssn FROM patients ORDER BY id IN ({})",
    ],
)
def test_long_list_of_integers_is_read_as_a_short_one(form: str) -> None:
    text, short = (form.replace("{}", listed) for listed in (MANY, "0"))

    assert len(_spelled_out(text, tokenize(text))) < 200
    assert read_client(text, tokenize(text)) == read_client(short, tokenize(short))


@pytest.mark.parametrize("among", ["(SELECT 1 FROM claims)", "$1", "id", "'5'", "-5", "5.0", "/* ) */ 5", "5\n", "0x5"])
def test_list_with_anything_else_in_it_is_left_as_it_is(among: str) -> None:
    text = f"SELECT ssn FROM patients WHERE id IN ({MANY}, {among}, {MANY})"

    assert _spelled_out(text, tokenize(text)) == text


@pytest.mark.parametrize(
    ("begin", "each", "end"),
    [
        ("SELECT 1 FROM t WHERE x IN (", "'a{}'", ")"),
        ("SELECT 1 FROM t WHERE x IN (", "{}", ")"),
        ("INSERT INTO t VALUES ", "({}, 'a', NULL, $1, 0.5)", ""),
        ("SELECT ", "a{}", " FROM t"),
        ("SELECT 1 FROM t WHERE x IN (1, ", "lower(a) || 'a{}'", ")"),
        ("SELECT ARRAY[1, ", "CASE WHEN a = {} THEN 'a' END", "]"),
    ],
)
def test_other_threads_have_turns_while_a_long_text_is_parsed(begin: str, each: str, end: str) -> None:
    """Its parser is compiled as well."""
    text = begin + ", ".join(each.replace("{}", str(number)) for number in range(2_000)) + end
    tokens = parse._POSTGRES.tokenizer().tokenize(text)

    trees, turns = counting_turns(lambda: parse._POSTGRES.parser().parse(tokens, text))

    assert turns > 2_000
    assert trees == Postgres().parse(text)


@pytest.mark.parametrize("each", ["a", "1", "'a'", '"a"', ",", "(", "+", "$1", "select", "E'a'", "$a$a$a$", "commit;"])
def test_other_threads_have_turns_while_a_long_text_is_cut_into_tokens(each: str) -> None:
    text = f"{each} " * 2_000

    tokens, turns = counting_turns(lambda: parse._POSTGRES.tokenizer().tokenize(text))

    assert turns > 2_000
    expected = Postgres().tokenizer().tokenize(text)
    assert [(token.token_type, token.text) for token in tokens] == [(t.token_type, t.text) for t in expected]


BROKEN = ["SELECT 'open", "SELECT (", "FROM FROM", "SELECT 1; SELECT 2", "/* open", "SELECT $$a", "VACUUM x", "", ")"]


def test_what_was_read_before_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = "\n".join((INCOMPLETE, ORDINARY, OUTPUTS, PREDICATES)).splitlines()
    texts = [*BROKEN, *(line.partition(" => ")[0] for line in cases if line)] * 2
    random.Random(3).shuffle(texts)

    found = [_read(text) for text in texts]
    monkeypatch.setattr(parse, "_KEPT_TEXT", -1)  # each by a tokenizer and a parser of its own

    assert found == [_read(text) for text in texts]
    assert len(set(found)) > 50


def _read(text: str) -> ClientReading:
    try:
        return read_client(text, tokenize(text))
    except LexError:
        return read_client(text, [])


def test_too_deep_is_what_the_depth_says() -> None:
    chosen = random.Random(11)
    pieces = ["(", ")", "[", "]", "NOT ", "- ", "CASE ", "END ", "a ", "1 ", "'x' ", "+" * 101 + " ", "@ "]
    deepening = [(1,) * len(pieces), (9, 1, 3, 1, 3, 3, 3, 1, 1, 1, 1, 0, 1)]
    found = set()
    for _ in range(2_000):
        weights = chosen.choice(deepening)
        tokens = tokenize("".join(chosen.choices(pieces, weights, k=chosen.randrange(1, 260))))
        assert is_too_deep(tokens) == (depth_of(tokens) > MAX_DEPTH)
        found.add((is_too_deep(tokens), len(tokens) > MAX_DEPTH))

    assert found == {(False, False), (False, True), (True, False), (True, True)}


def test_a_tree_that_was_read_is_gone_at_once() -> None:
    """What waits for the collector makes it halt every session, the more often the more statements are new."""
    text = "WITH x AS (SELECT id FROM patients) SELECT p.*, count(*) FROM patients p, x WHERE p.id = 1 GROUP BY 1"
    read_client(text, tokenize(text))
    gc.collect()
    gc.disable()
    try:
        read_client(text, tokenize(text))
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [type(each).__name__ for each in gc.garbage if isinstance(each, exp.Expr)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert left == []
