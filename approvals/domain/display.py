"""Showing a reviewer exactly what will run: nothing invisible stays invisible, nothing looks like something else. Pure.

Control, format (bidirectional, zero-width), combining and odd space characters become visible marks with their code
point; letters outside ASCII stay but are marked, because a table's name may begin with a Cyrillic letter. Lines end at
line feeds only, and are numbered, so that a statement cannot hide below blank lines or behind a comment. (The style
sheet forces left-to-right order as well: right-to-left letters reorder a line without any control character.)
Trojan Source, CVE-2021-42574 and -42694, are the attacks meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

PLAIN, KEYWORD, MARK, LETTER = "plain", "keyword", "mark", "letter"

_KEYWORDS = """
    select from where insert into update delete set values join left right inner outer full cross on using group by
    order having limit offset union intersect except all distinct as and or not in is null like between exists case when
    then else end with recursive returning create table drop alter truncate copy to grant revoke begin commit rollback
    merge lateral over partition cast explain analyze
"""
KEYWORDS = frozenset(_KEYWORDS.split())
# Letters by category, blank to the eye: Hangul fillers, and the empty Braille pattern.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_RUNS = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*|[\x20-\x7e]+?(?=[A-Za-z_]|[^\x20-\x7e]|$)|.", re.DOTALL)
_CONTROL_NAMES = {0x00: "NULL", 0x08: "BACKSPACE", 0x09: "TAB", 0x0B: "VERTICAL TAB", 0x0C: "FORM FEED",
                  0x0D: "CARRIAGE RETURN", 0x1B: "ESCAPE", 0x7F: "DELETE", 0x85: "NEXT LINE"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text to show alike. `note` says what a marked character is."""

    text: str
    kind: str = PLAIN
    note: str = ""


Line = tuple[Piece, ...]


def visible_lines(text: str) -> tuple[Line, ...]:
    """Return the text line by line; joining the pieces of kinds other than MARK gives back what is not marked."""
    return tuple(_pieces(line) for line in text.split("\n"))


def visible(text: str) -> str:
    """A name on one line, as plain text: whatever hides, reorders or breaks the line is a mark."""
    return "".join(_mark(character) if _classify(character)[0] == MARK else character for character in text)


def kind_words(kind: str) -> str:
    """A kind of statement as SQL spells it: `COPY TO`. Policies and the log name it `COPY_TO`."""
    return kind.replace("_", " ")


def name_pieces(text: str) -> Line:
    """A name on one line, in pieces to show: a statement chooses some of the names that are told beside it."""
    return tuple(
        Piece(piece.text, PLAIN if piece.kind == KEYWORD else piece.kind, piece.note) for piece in _pieces(text)
    )


def warnings(text: str) -> tuple[str, ...]:
    """Sentences about characters a reader may be deceived by; empty for ordinary ASCII text."""
    kinds = Counter(_classify(character)[0] for character in text if character not in "\n\t")
    found = []
    if kinds[MARK]:
        found.append(f"{kinds[MARK]} invisible or reordering character(s), shown as marks")
    if kinds[LETTER]:
        found.append(f"{kinds[LETTER]} character(s) outside ASCII, underlined; they may imitate others")
    return tuple(found)


def hidden_characters(text: str) -> frozenset[str]:
    """The characters of a text that are shown as marks, apart from line feeds and tabs."""
    return frozenset(character for character in text if character not in "\n\t" and _classify(character)[0] == MARK)


def _pieces(line: str) -> Line:
    pieces: list[Piece] = []
    for run in _RUNS.findall(line):
        kind, note = _classify_run(run)
        shown = _mark(run) if kind == MARK else run
        if pieces and kind == PLAIN == pieces[-1].kind:
            pieces[-1] = Piece(pieces[-1].text + shown)
        else:
            pieces.append(Piece(shown, kind, note))
    return tuple(pieces)


def _classify_run(run: str) -> tuple[str, str]:
    if run.isascii() and run.isprintable():
        return (KEYWORD, "") if run.lower() in KEYWORDS else (PLAIN, "")
    return _classify(run)


@lru_cache(maxsize=4096)
def _classify(character: str) -> tuple[str, str]:
    if character.isascii() and character.isprintable():
        return PLAIN, ""
    category = unicodedata.category(character)
    note = f"U+{ord(character):04X} {_name(character)}"
    hidden = category[0] in "CMZ" or character in _BLANK_LETTERS
    return (MARK if hidden else LETTER), note


def _mark(character: str) -> str:
    return "⇥" if character == "\t" else f"⟨U+{ord(character):04X}⟩"


def _name(character: str) -> str:
    return unicodedata.name(character, _CONTROL_NAMES.get(ord(character), "UNNAMED"))
