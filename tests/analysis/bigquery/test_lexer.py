"""Where strings and comments of GoogleSQL begin and end, and that a second lexer has to agree."""

from __future__ import annotations

import pytest

from analysis.bigquery.lexer import called_names, same_tokens, tokenize
from analysis.bigquery.script import PieceKind, Unsplittable, split_script
from analysis.lexer import LexError


def texts(text: str) -> list[str]:
    return [token.text for token in tokenize(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 'a\\'b', \"c\\\"d\"", ["SELECT", "'a\\'b'", ",", '"c\\"d"']),
        ("SELECT r'\\', x'", ["SELECT", "r'\\', x'"]),
        ("SELECT '''a'b''', \"\"\"c\"d\"\"\"", ["SELECT", "'''a'b'''", ",", '"""c"d"""']),
        ("SELECT rb'x', BR\"y\"", ["SELECT", "rb'x'", ",", 'BR"y"']),
        ("SELECT '' # 'not a string", ["SELECT", "''"]),
        ("SELECT 1 -- FROM x\n+ 2", ["SELECT", "1", "+", "2"]),
        ("SELECT /* /* */ ssn", ["SELECT", "ssn"]),
        ("SELECT `a-b`.c, @p, @@v, ?", ["SELECT", "`a-b`", ".", "c", ",", "@p", ",", "@@v", ",", "?"]),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


@pytest.mark.parametrize("text", ["SELECT 'a", 'SELECT "a\n"', "SELECT `a", "SELECT '''a''", "SELECT \x00", "SELECT é"])
def test_what_is_no_token_raises(text: str) -> None:
    with pytest.raises(LexError):
        tokenize(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a, r'\\'x', 1e5 FROM `a-b.c`.d -- x\nWHERE b = @p GROUP BY a ORDER BY 1",
        "SELECT 0x1F, .5, '''a''' FROM t # c",
        "SELECT /* a */ b FROM c",
    ],
)
def test_both_lexers_agree_on_ordinary_text(text: str) -> None:
    assert same_tokens(text, tokenize(text))


def test_a_disagreement_about_a_string_is_seen() -> None:
    text = "SELECT 'a' , b"
    shifted = [token for token in tokenize(text) if token.text != "'a'"]

    assert not same_tokens(text, shifted)


def test_called_names_are_dotted_and_lower_case() -> None:
    assert called_names(tokenize("SELECT UPPER(a), SAFE.SUBSTR(b, 1), `p.d`.F(c), x FROM t")) == {
        "upper",
        "safe.substr",
        "p.d.f",
    }


def pieces(text: str) -> list[tuple[PieceKind, str]]:
    return [(piece.kind, piece.text) for piece in split_script(text, tokenize(text)).pieces]


def test_a_script_is_cut_into_exact_parts() -> None:
    text = "DECLARE x INT64; IF x > CASE WHEN TRUE THEN 1 END THEN SELECT ';' ; ELSE SELECT 2; END IF; -- end\nSELECT 3"

    assert pieces(text) == [
        (PieceKind.STATEMENT, "DECLARE x INT64"),
        (PieceKind.CONDITION, "x > CASE WHEN TRUE THEN 1 END"),
        (PieceKind.STATEMENT, "SELECT ';'"),
        (PieceKind.STATEMENT, "SELECT 2"),
        (PieceKind.STATEMENT, "SELECT 3"),
    ]


def test_loops_and_blocks_are_cut() -> None:
    text = (
        "BEGIN FOR r IN (SELECT a FROM t) DO WHILE TRUE DO SELECT 1; BREAK; END WHILE; END FOR;"
        " REPEAT SELECT 2; UNTIL b END REPEAT; EXCEPTION WHEN ERROR THEN RAISE; END"
    )

    assert [kind.value for kind, _ in pieces(text)] == [
        "loop", "condition", "statement", "statement", "condition", "opaque",
    ]  # fmt: skip
    assert split_script(text, tokenize(text)).branches


@pytest.mark.parametrize(
    "text",
    ["IF TRUE THEN SELECT 1", "CASE 1 WHEN 1 THEN SELECT 1; END CASE", "a: LOOP SELECT 1; END LOOP", "WHILE TRUE"],
)
def test_what_cannot_be_cut_is_refused(text: str) -> None:
    with pytest.raises(Unsplittable):
        split_script(text, tokenize(text))
