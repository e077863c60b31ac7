r"""Patterns that are only run over a text in which they can match: a linear pass of google-re2 says which those are.

Python's `re` costs some ten microseconds a pattern and note even where nothing matches, and there are about sixty. So
each pattern is made with `watch`, which keeps a *relaxed* form of it besides: the same pattern without what RE2 lacks
(look-around and back references), hence matching wherever the precise one does. The relaxed forms are a few RE2 sets. A
`Watched` pattern whose relaxed form is not among the hits of a text yields nothing without being tried.

Why the relaxed form loses nothing: a look-around only ever refuses; a back reference repeats one character of the
separators it may be; the set reads a stand-in of the text in which every character that is not ASCII is replaced by one
that the same classes accept (`_` for what Python's `\w` takes, DEL for the rest).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TypeVar

import re2

Hits = frozenset[int]
_NONE: Hits = frozenset()
_Entry = TypeVar("_Entry")

_MEMORY_BYTES = 32 << 20  # of each automaton's cached states; when it is full RE2 starts the cache afresh
_SPACES = r"\s\x0b\x1c-\x1f"  # Python's white space in ASCII; RE2 has fewer
_SEPARATORS = r"[-:/. ]"  # what the groups that are referred back to can hold
_OTHER_CASES = {"\u0131": "i", "\u017f": "s", "\u212a": "k"}  # fold into ASCII under IGNORECASE


class Watched:
    """A pattern, compiled when it is first needed, and its place among those it is watched with."""

    def __init__(self, text: str, flags: int, trigger: str, *, index: int) -> None:
        self._text, self._flags, self._trigger = text, flags, trigger
        self.index = index

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self._text, self._flags)

    @cached_property
    def relaxed(self) -> str:
        return self._trigger or relaxed(self._text, ignore_case=bool(self._flags & re.IGNORECASE))

    def hit(self, hits: Hits) -> bool:
        return self.index in hits

    def finditer(self, text: str, hits: Hits) -> Iterator[re.Match[str]]:
        return self.pattern.finditer(text) if self.index in hits else iter(())


class Watch:
    """Patterns that are looked for together, in so many RE2 sets."""

    def __init__(self, *, sets: int) -> None:
        self.watched: list[Watched] = []
        self._count = sets

    def watch(self, pattern: str, flags: int = 0, *, trigger: str = "") -> Watched:
        """Name a pattern. `trigger` (RE2 syntax) stands for the relaxed form where more is known than the pattern says.

        Only at import: the sets are built when the first text is read. Compiling waits too, for a process that reads
        none.
        """
        named = Watched(pattern, flags, trigger, index=len(self.watched))
        self.watched.append(named)
        return named

    def hits_of(self, text: str) -> Hits:
        """Return the patterns worth running over a text in its normal form."""
        seen = (text if text.isascii() else stand_in(text)).encode("ascii")
        hits: list[int] = []
        for patterns, first in self._sets:
            found = patterns.Match(seen)
            if found:
                hits += [first + index for index in found]
        return frozenset(hits) if hits else _NONE

    def everything(self) -> Hits:
        """All patterns: what `hits_of` is measured against."""
        return frozenset(range(len(self.watched)))

    @cached_property
    def _sets(self) -> tuple[tuple[re2.Set, int], ...]:
        """The sets, each with the index of its first pattern."""
        size = -(-len(self.watched) // self._count)
        return tuple((_set(self.watched[first : first + size]), first) for first in range(0, len(self.watched), size))


# One set of sixty patterns is fastest over text it knows, but builds new states for every new sentence (their number is
# a product); eight small ones soon have all they need. Measured on unseen prose: 124 microseconds a text against 52.
PROSE = Watch(sets=8)
watch, hits_of = PROSE.watch, PROSE.hits_of


def any_of(phrases: Iterable[str]) -> str:
    """Return an alternation of literal phrases for a trigger; any white space between their words."""
    return "|".join(re2.escape(phrase).replace("\\ ", r"\s+") for phrase in sorted(set(phrases)))


def chosen(by_index: Mapping[int, _Entry], hits: Hits) -> list[_Entry]:
    """Return the entries of a table of patterns, keyed by their places in the set, that are among the hits."""
    return [by_index[index] for index in hits if index in by_index]


def stand_in(text: str) -> str:
    return text.translate({ord(char): _stand_in(char) for char in set(text) if not char.isascii()})


def _stand_in(char: str) -> str:
    if char in _OTHER_CASES:
        return _OTHER_CASES[char]
    if char.isspace():
        return " "
    return "_" if char.isalnum() else "\x7f"


def _set(some: list[Watched]) -> re2.Set:
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1  # every stand-in is ASCII: bytes need no decoding
    patterns = re2.Set.SearchSet(options)
    for watched in some:
        if patterns.Add(watched.relaxed) < 0:
            raise ValueError(f"pattern {watched.index} has no relaxed form: {watched.relaxed}")
    patterns.Compile()
    return patterns


# --- Relaxing ---------------------------------------------------------------------------------------------------------

_CLASS = r"\[\^?\]?(?:\\.|[^\]\\])*\]"
_PIECE = re.compile(rf"{_CLASS}|\\.|\(\?<?[=!]|\(\?P<\w+>|\(\?[a-zA-Z]+:|\(\?:|.", re.DOTALL)
_EDGE = re.compile(rf"\(\?<?!({_CLASS}|\\\w)\)")


def relaxed(pattern: str, *, ignore_case: bool = False) -> str:
    """Return an RE2 pattern that matches in every text in which `pattern` does."""
    start, end = _edges(pattern)
    body = "".join(_relaxed_pieces(_PIECE.findall(pattern)))
    return f"{'(?i)' if ignore_case else ''}{start}(?:{body}){end}"


def _edges(pattern: str) -> tuple[str, str]:
    """A first `(?<![…])` and a last `(?![…])` outside any alternative can be said with a character instead."""
    pieces = _PIECE.findall(pattern)
    depth, alternatives = 0, False
    for piece in pieces:
        depth += (piece.startswith("(")) - (piece == ")")
        alternatives = alternatives or (piece == "|" and depth == 0)
    if alternatives:
        return "", ""
    first = _EDGE.match(pattern)
    last = next((found for found in _EDGE.finditer(pattern) if found.end() == len(pattern)), None)
    start = rf"(?:\A|{_complement(first[1])})" if first and pattern.startswith("(?<!") else ""
    end = rf"(?:\z|{_complement(last[1])})" if last and last[0].startswith("(?!") else ""
    return start, end


def _complement(accepted: str) -> str:
    inner = accepted[1:-1] if accepted.startswith("[") else accepted
    outside = "[^" + inner.replace(r"\s", _SPACES) + "]"
    # A class of ASCII letters does not hold those whose stand-in is one.
    return outside if r"\w" in inner else f"{outside}|[{''.join(_OTHER_CASES.values())}]"


def _relaxed_pieces(pieces: list[str]) -> Iterator[str]:
    skipping = 0  # depth inside a look-around
    for piece in pieces:
        opens = piece.startswith("(")
        if skipping:
            skipping += opens - (piece == ")")
        elif re.fullmatch(r"\(\?<?[=!]", piece):
            skipping = 1
            yield "(?:)"  # so that nothing before it can be taken for its operand
        else:
            yield _relaxed_piece(piece)


def _relaxed_piece(piece: str) -> str:
    if piece == "(" or piece.startswith("(?P<"):
        return "(?:"
    if piece.startswith("["):
        return piece.replace(r"\s", _SPACES)
    if re.fullmatch(r"\\\d", piece):
        return _SEPARATORS
    if piece == r"\s":
        return f"[{_SPACES}]"
    return "(?:)" if piece == "$" else piece  # `$` also matches before a last line feed
