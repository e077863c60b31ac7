"""The reviewer sees exactly what runs: nothing invisible, nothing that looks like something else."""

from __future__ import annotations

import pytest

from approvals.domain.diff import MAX_LINES, DiffLine, diff_lines
from approvals.domain.display import Piece, visible_lines, warnings


def shown(text):
    return "\n".join("".join(piece.text for piece in line) for line in visible_lines(text))


def test_display_leaves_ordinary_sql_as_it_is():
    sql = "SELECT id, 'it''s' FROM patients\n WHERE id = $1 -- why\n"

    assert shown(sql) == sql
    assert warnings(sql) == ()


def test_display_marks_keywords_only_as_whole_words():
    (line,) = visible_lines("select selected")

    assert line == (Piece("select", "keyword"), Piece(" selected"))


def keywords(text, kind):
    return [piece.text for line in visible_lines(text, kind=kind) for piece in line if piece.kind == "keyword"]


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("SELECT 'set from\nwhere it''s from' FROM t", "postgres", ["SELECT", "FROM"]),
        ("SELECT E'a\\' FROM ' FROM t", "postgres", ["SELECT", "FROM"]),
        ("SELECT '\\' FROM t", "postgres", ["SELECT", "FROM"]),
        ('SELECT $a$ delete from $$ x $a$, "select" FROM t', "postgres", ["SELECT", "FROM"]),
        ("SELECT 1 -- delete from t\n/* drop /* table */ and\nset */ FROM t", "postgres", ["SELECT", "FROM"]),
        ("SELECT a #>> '{b}' FROM t", "postgres", ["SELECT", "FROM"]),
        ("SELECT 'never ends FROM t", "postgres", []),
        ("SELECT '\\' from', \"from\", `select` # where\nFROM t", "bigquery", ["SELECT", "FROM"]),
        ('SELECT r"""from\nt""" FROM t', "bigquery", ["SELECT", "FROM"]),
        ("SELECT 'from' # where\nFROM t", "", ["SELECT", "FROM"]),
        ("SELECT $$ from $$ FROM t", "", ["SELECT", "FROM"]),
        ("UPDATE t SET a = 'שלום set' WHERE b = 1", "postgres", ["UPDATE", "SET", "WHERE"]),
    ],
)
def test_display_marks_keywords_only_where_they_are_code(text, kind, found):
    assert keywords(text, kind) == found


@pytest.mark.parametrize(
    ("character", "note"),
    [
        ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\u2066", "U+2066 LEFT-TO-RIGHT ISOLATE"),
        ("\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\ufeff", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("\u00a0", "U+00A0 NO-BREAK SPACE"),
        ("\u2028", "U+2028 LINE SEPARATOR"),
        ("\u0301", "U+0301 COMBINING ACUTE ACCENT"),
        ("\ufe0f", "U+FE0F VARIATION SELECTOR-16"),
        ("\u3164", "U+3164 HANGUL FILLER"),
        ("\r", "U+000D CARRIAGE RETURN"),
        ("\x1b", "U+001B ESCAPE"),
        ("\x00", "U+0000 NULL"),
        ("\x08", "U+0008 BACKSPACE"),
        ("\x85", "U+0085 NEXT LINE"),
        ("\U000e0041", "U+E0041 TAG LATIN CAPITAL LETTER A"),
        ("\ue000", "U+E000 UNNAMED"),
    ],
)
def test_display_makes_hidden_characters_visible(character, note):
    (line,) = visible_lines(f"a{character}b")

    assert [piece.text for piece in line] == ["a", f"⟨U+{ord(character):04X}⟩", "b"]
    assert (line[1].kind, line[1].note) == ("mark", note)
    assert character not in shown(f"a{character}b")
    assert warnings(f"a{character}b") == ("1 invisible or reordering character(s), shown as marks",)


@pytest.mark.parametrize("text", ["p\u0430tients", "\uff53elect", "\u017fsn", "שלום"])
def test_display_marks_letters_that_imitate_others(text):
    foreign = [piece for line in visible_lines(text) for piece in line if piece.kind == "letter"]

    assert foreign
    assert all(piece.note.startswith("U+") for piece in foreign)
    assert shown(text) == text


def test_display_numbers_every_line_feed():
    assert len(visible_lines("-- harmless" + "\n" * 40 + "DELETE FROM patients")) == 41


def test_display_does_not_end_lines_where_the_database_does_not():
    assert len(visible_lines("-- a\u2028DELETE FROM patients\rx\x0by")) == 1


def test_diff_shows_changed_words():
    assert diff_lines("SELECT a\nFROM t", "SELECT a, b\nFROM t") == (
        DiffLine("-", (("SELECT a", False),)),
        DiffLine("+", (("SELECT a", False), (", b", True))),
        DiffLine(" ", (("FROM t", False),)),
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "a"), ("a\nb\nc", "c"), ("a", "a\nb"), ("x" * 5000, "y z " * 3000), ("a\r\nb", "a\nb"), ("a ", "a")],
)
def test_diff_joins_to_both_texts(before, after):
    lines = diff_lines(before, after)

    for sign, text in (("-", before), ("+", after)):
        kept = ["".join(part for part, _ in line.parts) for line in lines if line.sign in (" ", sign)]
        assert "\n".join(kept) == text


def test_diff_of_long_texts_is_bounded():
    lines = diff_lines("a\n" * (MAX_LINES + 1), "b\n" * (MAX_LINES + 1))

    assert {line.sign for line in lines} == {"-", "+"}
