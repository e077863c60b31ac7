"""Cut a text into its statements, procedural language included ("Procedural language").

The parts are exact substrings. Control structures are not executed: what they decide by becomes a part of its own, so
that conditions are read like any other expression. What cannot be cut (CASE statements, procedures with bodies) raises
Unsplittable, and the text is not understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from analysis.lexer import Token

MAX_PIECES = 200


class Unsplittable(ValueError):
    """A structure that is not followed."""


class PieceKind(Enum):
    STATEMENT = "statement"
    CONDITION = "condition"  # of IF, ELSEIF, WHILE, UNTIL
    LOOP = "loop"  # FOR name IN (query)
    OPAQUE = "opaque"  # EXECUTE IMMEDIATE, CALL, RAISE


@dataclass(frozen=True, slots=True)
class Piece:
    kind: PieceKind
    text: str
    start: int
    name: str = ""  # the variable of a LOOP


@dataclass(frozen=True, slots=True)
class Script:
    pieces: tuple[Piece, ...]
    branches: bool = False  # which parts run is decided at run time


_CONTROL = frozenset({"BREAK", "LEAVE", "CONTINUE", "ITERATE", "RETURN"})
_OPAQUE = frozenset({"EXECUTE", "CALL", "RAISE"})
_BLOCKS = frozenset({"IF", "LOOP", "WHILE", "REPEAT", "FOR", "CASE"})


def split_script(text: str, tokens: list[Token]) -> Script:
    """Return the parts of `text`. Raises Unsplittable."""
    return _Splitter(text, tokens).run()


class _Splitter:
    def __init__(self, text: str, tokens: list[Token]) -> None:
        self._text, self._tokens, self._at = text, tokens, 0
        self._pieces: list[Piece] = []
        self._open = 0
        self._branches = False

    def run(self) -> Script:
        while self._at < len(self._tokens):
            self._step()
            if len(self._pieces) > MAX_PIECES:
                raise Unsplittable(f"more than {MAX_PIECES} statements")
        if self._open:
            raise Unsplittable("a block that does not end")
        return Script(tuple(self._pieces), self._branches)

    def _word(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at].word if at < len(self._tokens) else ""

    def _symbol(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _step(self) -> None:
        word = self._word()
        if self._symbol() == ";":
            self._at += 1
        elif word == "BEGIN" and self._word(1) != "TRANSACTION" and self._symbol(1) not in (";", ""):
            self._at, self._open = self._at + 1, self._open + 1
        elif self._open and self._structure(word):
            self._branches = True
        elif word in ("IF", "WHILE", "LOOP", "REPEAT", "FOR"):
            self._branches = True
            self._enter(word)
        elif word == "CASE" or (word and self._symbol(1) == ":"):
            raise Unsplittable("a CASE statement or a label")
        elif word in _CONTROL:
            self._branches = True
            self._until_semicolon()
        else:
            self._statement(word)

    def _structure(self, word: str) -> bool:
        """What may only stand inside a block."""
        if word == "END":
            self._at += 1 + (self._word(1) in _BLOCKS)
            self._open -= 1
        elif word == "ELSE":
            self._at += 1
        elif word == "ELSEIF":
            self._condition("THEN")
        elif word == "UNTIL":
            self._condition("END", consume=False)
        elif word == "EXCEPTION" and [self._word(n) for n in (1, 2, 3)] == ["WHEN", "ERROR", "THEN"]:
            self._at += 4
        else:
            return False
        return True

    def _enter(self, word: str) -> None:
        self._open += 1
        if word == "IF":
            self._condition("THEN")
        elif word == "WHILE":
            self._condition("DO")
        elif word == "FOR":
            name = self._symbol(1)
            if self._word(2) != "IN" or self._symbol(3) != "(":
                raise Unsplittable("a FOR of a kind that is not known")
            self._at += 2
            self._condition("DO", kind=PieceKind.LOOP, name=name)
        else:
            self._at += 1

    def _condition(
        self, ending: str, *, consume: bool = True, kind: PieceKind = PieceKind.CONDITION, name: str = ""
    ) -> None:
        """The tokens between this keyword and `ending`, outside parentheses and CASE … END."""
        start = self._at + 1
        depth = cases = 0
        for at in range(start, len(self._tokens)):
            token = self._tokens[at]
            if depth == 0 and cases == 0 and token.word == ending:
                self._add(kind, start, at, name)
                self._at = at + consume
                return
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            cases += {"CASE": 1, "END": -1}.get(token.word, 0)
        raise Unsplittable(f"a condition without {ending}")

    def _statement(self, word: str) -> None:
        start = self._at
        self._until_semicolon()
        head = [token.word for token in self._tokens[start : start + 4]]
        if head[:1] == ["CREATE"] and "PROCEDURE" in head:
            raise Unsplittable("a procedure")
        self._add(PieceKind.OPAQUE if word in _OPAQUE else PieceKind.STATEMENT, start, self._at)

    def _until_semicolon(self) -> None:
        depth = 0
        while self._at < len(self._tokens):
            symbol = self._symbol()
            if symbol == ";" and depth <= 0:
                return
            depth += {"(": 1, ")": -1}.get(symbol, 0)
            self._at += 1

    def _add(self, kind: PieceKind, start: int, end: int, name: str = "") -> None:
        if start >= end:
            raise Unsplittable("an empty part")
        first, last = self._tokens[start].start, self._tokens[end - 1].end
        self._pieces.append(Piece(kind, self._text[first:last], first, name))
