"""What a reviewer changed: line by line, with the changed words of a changed line. Pure, and bounded in time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

MAX_LINES = 2_000
MAX_WORDS = 400
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class DiffLine:
    """`sign` is " ", "-" or "+"; `parts` are (text, changed) and join to the line."""

    sign: str
    parts: tuple[tuple[str, bool], ...]


def diff_lines(before: str, after: str) -> tuple[DiffLine, ...]:
    """Return the whole of both texts as a diff. Texts of over MAX_LINES lines are shown as replaced whole."""
    old, new = before.split("\n"), after.split("\n")
    if max(len(old), len(new)) > MAX_LINES:
        return (*_whole("-", old), *_whole("+", new))
    lines: list[DiffLine] = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += [DiffLine(" ", ((line, False),)) for line in old[a:b]]
        elif tag == "replace" and b - a == d - c:
            pairs = [_words(was, now) for was, now in zip(old[a:b], new[c:d], strict=True)]
            lines += [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
        else:
            lines += [*_whole("-", old[a:b]), *_whole("+", new[c:d])]
    return tuple(lines)


def _whole(sign: str, lines: list[str]) -> Iterator[DiffLine]:
    return (DiffLine(sign, ((line, True),)) for line in lines)


def _words(was: str, now: str) -> tuple[DiffLine, DiffLine]:
    old, new = _WORDS.findall(was), _WORDS.findall(now)
    if max(len(old), len(new)) > MAX_WORDS:
        return DiffLine("-", ((was, True),)), DiffLine("+", ((now, True),))
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    removed = tuple(("".join(old[a:b]), tag != "equal") for tag, a, b, _, _ in codes if a < b)
    added = tuple(("".join(new[c:d]), tag != "equal") for tag, _, _, c, d in codes if c < d)
    return DiffLine("-", removed), DiffLine("+", added)
