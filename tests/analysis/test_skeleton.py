"""The skeleton: a cheap key that must never let two statements meet whose templates differ."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fingerprint import shape_of, skeleton, skeleton_of
from analysis.lexer import LexError, tokenize
from tests.turn import examples

_PIECES = st.sampled_from(
    ["select", " a", " from t", " where a = ", "1", "23", " and b > ", "'x 5 '", " -- 7 ", "\n", "/* 8 */", "$1",
     " limit ", "(", ")", ",", "1.5", "e3", "x9", '"q 4 "', "$$ 6 $$", " or ", "-", "insert into t values (", "'", " "]
)  # fmt: skip


@settings(max_examples=examples(600), deadline=None)
@given(pieces=st.lists(_PIECES, max_size=12), digits=st.lists(st.integers(0, 999_999_999), min_size=12, max_size=12))
def test_texts_of_one_skeleton_have_one_template(pieces: list[str], digits: list[int]) -> None:
    text = "".join(pieces)
    try:
        tokens = tokenize(text)
    except LexError:
        return
    bones = skeleton_of(text, tokens)
    if bones is None:
        return
    numbers = iter(digits)

    other = re.sub("\0", lambda _: str(next(numbers, 0)), bones)

    assert skeleton(other) == bones
    assert shape_of(tokenize(other)).template == shape_of(tokens).template


@pytest.mark.parametrize(
    "text",
    [
        "select a from t limit 5",
        "select a from t where b = 'x 5 '",
        "select a, 5 from t",
        "select a from t -- 5 \n where a = 1",
        "select $$ 5 $$",
        "select a from t where a = \0",
    ],
)
def test_number_that_matters_has_no_skeleton(text: str) -> None:
    try:
        tokens = tokenize(text)
    except LexError:
        tokens = []

    assert skeleton_of(text, tokens) is None


@pytest.mark.parametrize(
    "text", ["select a from t limit - -5", "select a, b from t order by - -5", "select a from t offset - -5"]
)
def test_number_behind_two_signs_is_kept(text: str) -> None:
    """The server takes `- -5` for the constant 5: a bound, or the place of a column."""
    assert shape_of(tokenize(text)).template != shape_of(tokenize(text.replace("5", "6"))).template


@pytest.mark.parametrize(
    "text",
    [
        "insert into t with x as (values (1)) select a, b from u limit ((5))",
        "insert into t with x as (values (1)) select a, b from u order by ((5))",
        "insert into t (values (1)) union all (select a from u limit ((5)))",
        "insert into t (a, values) select a, b from u limit ((5))",
        "insert into t with x as (values (1)) select doc ->> (('5')) from u",
    ],
)
def test_literal_behind_values_of_a_subquery_is_kept(text: str) -> None:
    """Only what an INSERT's own VALUES lists is a row of constants: behind another there are bounds and keys."""
    assert shape_of(tokenize(text)).template != shape_of(tokenize(text.replace("5", "6"))).template


def test_cells_of_an_insert_are_not() -> None:
    """Rows of constants share a reading, whatever names and lists stand before them."""
    texts = [f"insert into t (a, b) overriding user value values (1, '{word}'), ({word}, 'y')" for word in "67"]

    assert len({shape_of(tokenize(text)).template for text in texts}) == 1


def test_point_select_has_one() -> None:
    text = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711"

    assert skeleton_of(text, tokenize(text)) == skeleton("SELECT abalance FROM pgbench_accounts WHERE aid = 1")
