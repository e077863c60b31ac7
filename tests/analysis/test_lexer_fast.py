"""The compiled lexer and the Python one: the same tokens at the same places, the same refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis import lexer
from analysis.lexer import LexError, Token, read_lexeme, read_tokens_python
from tests.analysis.cases import INCOMPLETE, ORDINARY, OUTPUTS, PREDICATES
from tests.analysis.turns import counting_turns
from tests.turn import examples

compiled = pytest.importorskip("analysis._lexer", reason="no C compiler or no Cython on this machine")

# What the plain cases of the compiled one end at, and what makes them not plain.
PIECES = st.sampled_from(
    [
        *("a", "B9", "_x", "select", "e", "E", "u&", "U&", "n", "x", "b", "\u00e9", "\u0130", "\u017f", "\U0001f600"),
        *("'", "''", "'text'", "'a\\'", '"', '""', '"Name"', "\\", "$", "$$", "$1", "$a$", "$é$"),
        *("1", "42", "1_0", "0x1f", "0b", "1e5", "1e", "1.", ".5", "..", ".", "\u0661", "\u00b2"),
        *(" ", "\t", "\n", "\r", "\f", "\v", "\u00a0", "\x1c", "\0", "--", "-- c\n", "/*", "*/", "/", "*", "-"),
        *("(", ")", "[", "]", "{", ",", ";", ":", "::", "=", "<>", "->>", "@>", "?", "`", "|", "~", "!", "%", "^", "#"),
    ]
)
TEXTS = st.lists(PIECES, max_size=16).map("".join) | st.text(max_size=30)
STATEMENTS = [
    line.partition(" => ")[0]
    for lines in (INCOMPLETE, ORDINARY, OUTPUTS, PREDICATES)
    for line in lines.strip().splitlines()
]


def outcome(read: Callable[..., None], text: str, standard: bool, most: int) -> Any:
    tokens: list[Token] = []
    try:
        read(text, standard, tokens, most, read_lexeme)
    except LexError as error:
        return tokens, str(error)
    return tokens


def agree(text: str, standard: bool, most: int = 1000) -> None:
    ours, theirs = (outcome(read, text, standard, most) for read in (compiled.read_tokens, read_tokens_python))

    assert ours == theirs
    tokens = ours[0] if isinstance(ours, tuple) else ours
    assert all(type(token) is Token for token in tokens)
    assert all(text[token.start : token.end] == token.text for token in tokens)


def test_compiled_one_is_used() -> None:
    assert lexer.read_tokens is compiled.read_tokens
    assert lexer.read_tokens is not read_tokens_python


@settings(max_examples=examples(3000), deadline=None)
@given(text=TEXTS, standard=st.booleans())
@example(text="'a' \n'b'", standard=True)
@example(text="'a' -- c\n'b'", standard=True)
@example(text="'a' -1", standard=True)
@example(text="'a\\' 'b'", standard=False)
@example(text='""', standard=True)
@example(text='"a"""', standard=True)
@example(text="1..2", standard=True)
@example(text="a'b'", standard=True)
@example(text="+--\n+/**/-", standard=True)
def test_same_tokens_of_anything(text: str, standard: bool) -> None:
    agree(text, standard)


@settings(max_examples=examples(600), deadline=None)
@given(
    statement=st.sampled_from(STATEMENTS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), PIECES), max_size=3),
    cut=st.none() | st.integers(0, 400),
    standard=st.booleans(),
)
def test_same_tokens_of_statements_that_were_altered(
    statement: str, changes: list[tuple[int, int, str]], cut: int | None, standard: bool
) -> None:
    for place, gone, piece in changes:
        at = place % (len(statement) + 1)
        statement = statement[:at] + piece + statement[at + gone :]

    agree(statement[:cut], standard)


@settings(max_examples=examples(200), deadline=None)
@given(text=TEXTS, most=st.integers(0, 4))
def test_both_stop_where_there_are_too_many(text: str, most: int) -> None:
    agree(text, True, most)


def test_other_threads_have_turns_while_a_long_text_is_cut() -> None:
    tokens: list[Token] = []

    _, turns = counting_turns(lambda: compiled.read_tokens("a, " * 100_000, True, tokens, 300_000, read_lexeme))

    assert len(tokens) == 200_000
    assert turns > 20
