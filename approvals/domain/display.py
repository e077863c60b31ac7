"""Showing a reviewer exactly what will run: nothing invisible stays invisible, nothing looks like something else. Pure.

Control, format (bidirectional, zero-width), combining and odd space characters become visible marks with their code
point; letters outside ASCII stay but are marked, because a table's name may begin with a Cyrillic letter. Lines end at
line feeds only, and are numbered, so that a statement cannot hide below blank lines or behind a comment. (The style
sheet forces left-to-right order as well: right-to-left letters reorder a line without any control character.)
Trojan Source, CVE-2021-42574 and -42694, are the attacks meant. Keywords are coloured where the language's own lexer
reads a word, and nowhere else: what stands in a literal, a quoted name or a comment must not look like code.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from analysis.bigquery import lexer as googlesql
from analysis.lexer import LexError, Token, TokenKind, tokenize
from audit.domain.marks import is_hidden, mark

PLAIN, KEYWORD, MARK, LETTER = "plain", "keyword", "mark", "letter"

_KEYWORDS = """
    select from where insert into update delete set values join left right inner outer full cross on using group by
    order having limit offset union intersect except all distinct as and or not in is null like between exists case when
    then else end with recursive returning create table drop alter truncate copy to grant revoke begin commit rollback
    merge lateral over partition cast explain analyze
"""
KEYWORDS = frozenset(_KEYWORDS.split())
# By kind of connection. Where the kind is not known, a keyword is what all of them read as a word.
_LEXERS: dict[str, Callable[[str], list[Token]]] = {"postgres": tokenize, "bigquery": googlesql.tokenize}
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


def visible_lines(text: str, *, kind: str = "") -> tuple[Line, ...]:
    """Return the text line by line; joining the pieces of kinds other than MARK gives back what is not marked.

    `kind` of the connection says whose keywords are coloured; none are in a text that language cannot cut into words.
    """
    keywords = _keyword_places(text, kind)
    lines, start = [], 0
    for line in text.split("\n"):
        lines.append(_pieces(line, start, keywords))
        start += len(line) + 1
    return tuple(lines)


def name_pieces(text: str) -> Line:
    """A name on one line, in pieces to show: a statement chooses some of the names that are told beside it."""
    return _pieces(text, 0, frozenset())


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


def _keyword_places(text: str, kind: str) -> frozenset[int]:
    """Where keywords begin."""
    lexers = [_LEXERS[kind]] if kind in _LEXERS else list(_LEXERS.values())
    try:
        return frozenset.intersection(*(frozenset(_keywords_of(lexer(text))) for lexer in lexers))
    except LexError:
        return frozenset()


def _keywords_of(tokens: list[Token]) -> Iterator[int]:
    return (token.start for token in tokens if token.kind is TokenKind.WORD and token.word.lower() in KEYWORDS)


def _pieces(line: str, start: int, keywords: frozenset[int]) -> Line:
    """The pieces of a line that begins at character `start` of its text."""
    pieces: list[Piece] = []
    for run in _RUNS.findall(line):
        is_keyword = start in keywords and run.lower() in KEYWORDS
        kind, note = (KEYWORD, "") if is_keyword else _classify_run(run)
        start += len(run)
        shown = mark(run) if kind == MARK else run
        if pieces and kind == PLAIN == pieces[-1].kind:
            pieces[-1] = Piece(pieces[-1].text + shown)
        else:
            pieces.append(Piece(shown, kind, note))
    return tuple(pieces)


def _classify_run(run: str) -> tuple[str, str]:
    return (PLAIN, "") if run.isascii() and run.isprintable() else _classify(run)


@lru_cache(maxsize=4096)
def _classify(character: str) -> tuple[str, str]:
    if character.isascii() and character.isprintable():
        return PLAIN, ""
    return (MARK if is_hidden(character) else LETTER), f"U+{ord(character):04X} {_name(character)}"


def _name(character: str) -> str:
    return unicodedata.name(character, _CONTROL_NAMES.get(ord(character), "UNNAMED"))
