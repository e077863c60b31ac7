"""The first word of a statement, whatever stands before it: as a loop over its characters finds it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.listeners.postgres_text import first_word
from tests.turn import examples


def by_character(text: str) -> str:
    at, depth = 0, 0
    while at < len(text):
        if text.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif depth and text.startswith("*/", at):
            depth, at = depth - 1, at + 2
        elif depth or text[at].isspace() or text[at] == "(":
            at += 1
        elif text.startswith("--", at):
            end = text.find("\n", at)
            at = len(text) if end < 0 else end + 1
        else:
            break
    end = at
    while end < len(text) and (text[end].isalpha() or text[end] == "_"):
        end += 1
    return text[at:end].lower()


PIECES = st.sampled_from(
    [
        "/*",
        "*/",
        "/",
        "*",
        "-",
        "--",
        "\n",
        "\r",
        " ",
        "(",
        "\t",
        "\x1c",
        "\u00a0",
        "\u3000",
        "select",
        "CoPy",
        "é",
        "_",
        "1",
        ";",
    ]
)


@settings(max_examples=examples(1500), deadline=None)
@given(text=st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=12))
@example(text="/*/*/ */ */ copy")
@example(text="/** **/copy")
@example(text="/*/ */copy")
@example(text="/* a */ /* b /* c */ */ -- d\n((copy")
@example(text="--")
def test_word_is_the_one_a_reader_finds(text: str) -> None:
    assert first_word(text) == by_character(text)


@pytest.mark.parametrize(
    "before",
    ["/* " + "a" * 1_000_000 + " */", "/*a*/" * 100_000, " " * 1_000_000, "--\n" * 100_000, "/*/**/*/" * 9_000],
)
def test_what_stands_before_may_be_long(before: str) -> None:
    assert first_word(f"{before}copy x") == "copy"


def test_no_keyword_is_as_long_as_what_is_looked_at() -> None:
    assert len(first_word(" " + "a" * 1000)) == 64
