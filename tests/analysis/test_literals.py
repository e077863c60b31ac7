"""A literal says exactly what the server reads in it, or nothing is known of it."""

from __future__ import annotations

import random

import psycopg
import pytest

from analysis.lexer import LexError, tokenize
from analysis.literals import literal_value

KNOWN = {
    "'a''b'": "a'b",
    "''": "",
    "'a'\n 'b'": "ab",
    "'a' -- said\n'b'": "ab",
    "'a\\nb'": "a\\nb",
    "'a\nb'": "a\nb",
    r"E'\x74heirs'": "theirs",
    r"e'\164\u0068\U00000065irs'": "theirs",
    r"E'\uD83D\uDE00'": "\U0001f600",
    r"E'\xc3\xa9\'\\\t'": "é'\\\t",
    "E'a'\n'\\x62'": "ab",
    r"U&'\0074h\+000065irs'": "theirs",
    r"u&'a\\b''c'": "a\\b'c",
    "U&'!0074!!' UESCAPE '!'": "t!",
    "$$theirs$$": "theirs",
    "$a$it's $$ \\x74$a$": "it's $$ \\x74",
}
UNKNOWN = [
    r"E'\v'", r"E'\q'", r"E'\x'", r"E'\x00'", r"E'\xff'", r"E'\u00'", r"E'\uD83D'", r"E'\uD83Dx'", r"E'\uDE00'",
    r"E'\U00110000'", r"U&'\0000'", r"U&'\00'", r"U&'\D83D\DE00'", r"U&'\+110000'", "U&'a' UESCAPE '+'",
    "U&'a' UESCAPE 'ab'", "'a' UESCAPE '!'", "B'1'", "X'1F'", "N'a'", "1", "a",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), KNOWN.items())
def test_literal_says_what_it_spells(text: str, value: str) -> None:
    assert literal_value(tokenize(text)) == value


@pytest.mark.parametrize("text", UNKNOWN)
def test_nothing_is_known_of_what_may_be_read_otherwise(text: str) -> None:
    assert literal_value(tokenize(text)) is None


def test_the_server_reads_the_same(scratch_dsn: str) -> None:
    """Random pieces of every kind of literal: what we say one is, the server says too."""
    seed = 20_261_129
    chosen = random.Random(seed)
    pieces = [
        *("a", "é", "''", "\\", "\\\\", "\\'", "\\x7", "\\x74", "\\101", "\\8"),
        *("\\u0041", "\\U00000042", "\\uD83D", "\\uDE00"),
        *("\\0043", "\\+000044", "!", "!!", "!0045"),
        *("\n", "'\n'", "' -- x\n'", "\\n", "\\q", "$", "$$", "--", "/*"),
    ]  # fmt: skip
    known = 0
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        for _ in range(3000):
            body = "".join(chosen.choices(pieces, k=chosen.randrange(6)))
            begin, end = chosen.choice(
                [("'", "'"), ("E'", "'"), ("U&'", "'"), ("U&'", "' UESCAPE '!'"), ("$$", "$$"), ("$é$", "$é$")]
            )
            text = begin + body + end
            try:
                value = literal_value(tokenize(text))
            except LexError:
                continue
            if value is not None:
                known += 1
                (said,) = connection.execute(f"SELECT {text}".encode()).fetchone()
                assert said == value, text

    assert known > 1000
