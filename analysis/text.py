"""What a statement's own text says, before any database is asked: its kind, its keys, how much there is to read.

Everything that takes time by the text's length and needs nothing but the text is done here, in one go, so that a long
one can be read beside the event loop. What comes later gets the answers, not the text again.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.fingerprint import Shape, shape_of, skeleton_of
from analysis.lexer import Token, TokenKind, tokenize
from analysis.making import quickly_made
from analysis.parse import is_too_deep
from analysis.utility import Utility, read_utility

# What one statement may cost the process it shares with every other session.
MAX_TOKENS = 50_000
MAX_PARTS = 200
# Beyond this a text has no cheap key: making one is a look at every character of it, by whoever recalls it.
MAX_SKELETON = 65_536
_PARTS = frozenset({"SELECT", "VALUES", "TABLE", "JOIN"})


@quickly_made
@dataclass(frozen=True, slots=True)
class Probe:
    """The query a statement is or carries. `too_much`: to be read a second time in time."""

    text: str
    tokens: list[Token]
    parameters: int  # the highest number of a `$n`
    too_much: bool


@quickly_made
@dataclass(frozen=True, slots=True)
class TextReading:
    """`skeleton` is None where it is no key (`skeleton_of`), `probe` where there is no query."""

    shape: Shape
    utility: Utility
    skeleton: str | None
    probe: Probe | None


def read_text(text: str) -> TextReading:
    """Raises LexError for what cannot be lexed, UnicodeEncodeError for characters no encoding holds."""
    tokens = tokenize(text)
    shape, utility = shape_of(tokens), read_utility(text)
    text.encode()
    cheap = utility.is_query and len(text) <= MAX_SKELETON
    return TextReading(
        shape=shape,
        utility=utility,
        skeleton=skeleton_of(text, tokens) if cheap else None,
        probe=None if utility.probe is None else _probe(utility.probe, tokens if utility.probe == text else None),
    )


def _probe(text: str, tokens: list[Token] | None) -> Probe:
    tokens = tokenize(text) if tokens is None else tokens
    return Probe(text, tokens, highest_parameter(text, tokens), _is_too_much(tokens))


def highest_parameter(text: str, tokens: list[Token]) -> int:
    if "$" not in text:
        return 0
    return max((int(token.text[1:]) for token in tokens if token.kind is TokenKind.PARAM), default=0)


def _is_too_much(tokens: list[Token]) -> bool:
    """Lineage takes time by the square of a statement's parts: past these bounds there is no second reading."""
    if len(tokens) > MAX_TOKENS:
        return True
    many = len(tokens) > MAX_PARTS and sum(token.word in _PARTS for token in tokens) > MAX_PARTS
    return many or is_too_deep(tokens)
