"""Split a simple-Query text into its statements, where the server's grammar would.

The parts are exact substrings: what is analysed is what is sent. A wrong cut could only make a part the server refuses,
never hide a statement, because each part goes upstream through Parse, which takes one command.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.lexer import LexError, Token, tokenize
from analysis.making import quickly_made


@quickly_made
@dataclass(frozen=True, slots=True)
class StatementPart:
    """`offset` is the part's place in the whole text, in characters. Never believe a part that is not `lexable`."""

    text: str
    offset: int
    lexable: bool = True


def split_statements(text: str, *, standard_conforming_strings: bool = True) -> tuple[StatementPart, ...]:
    """Return the statements of `text`, without their semicolons; empty ones are left out.

    What cannot be lexed comes back whole, as one part with `lexable` false: never let such a part run unreviewed.
    """
    try:
        tokens = tokenize(text, standard_conforming_strings=standard_conforming_strings)
    except LexError:
        return (StatementPart(text, 0, lexable=False),)
    if ";" not in text:
        return (StatementPart(text, 0),) if tokens else ()
    parts: list[StatementPart] = []
    start = 0
    current: list[Token] = []
    nesting = _Nesting()
    for token in tokens:
        if token.text == ";" and nesting.closed:
            if current:
                parts.append(StatementPart(text[start : token.start], start))
            start, current, nesting = token.end, [], _Nesting()
            continue
        current.append(token)
        nesting.feed(token, len(current) - 1)
    if current:
        parts.append(StatementPart(text[start:], start))
    return tuple(parts)


class _Nesting:
    """Semicolons inside parentheses (CREATE RULE) and BEGIN ATOMIC bodies do not end a statement."""

    def __init__(self) -> None:
        self._parens = 0
        self._blocks = 0
        self._head: list[str] = []

    @property
    def closed(self) -> bool:
        return self._parens <= 0 and self._blocks == 0

    def feed(self, token: Token, index: int) -> None:
        if index < 4:
            self._head.append(token.word)
        if token.text == "(":
            self._parens += 1
        elif token.text == ")":
            self._parens -= 1
        elif self._parens <= 0 and self._defines_routine():
            self._count_block(token.word)

    def _count_block(self, word: str) -> None:
        if word == "BEGIN" or (word == "CASE" and self._blocks):
            self._blocks += 1
        elif word == "END" and self._blocks:
            self._blocks -= 1

    def _defines_routine(self) -> bool:
        head = self._head
        if head[:1] != ["CREATE"]:
            return False
        kind = head[3:4] if head[1:3] == ["OR", "REPLACE"] else head[1:2]
        return kind in (["FUNCTION"], ["PROCEDURE"])
