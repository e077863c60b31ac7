"""The word lists of `data/`, read once. A trailing `*` marks words that name more than people."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_DATA = Path(__file__).parent / "data"


def _lines(name: str) -> str:
    text = (_DATA / name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


@cache
def words(name: str) -> frozenset[str]:
    """Every word of a list, lower case, marks removed."""
    return frozenset(word.rstrip("*").lower() for word in _lines(name).split())


@cache
def certain(name: str) -> frozenset[str]:
    """The words of a list without the ambiguous (starred) ones."""
    return frozenset(word.lower() for word in _lines(name).split() if not word.endswith("*"))


@cache
def phrases(name: str) -> tuple[str, ...]:
    """A comma-separated list, longest first, so that an alternation prefers the longer name."""
    found = {phrase.strip() for line in _lines(name).splitlines() for phrase in line.split(",")}
    return tuple(sorted(found - {""}, key=lambda phrase: (-len(phrase), phrase)))


def given() -> frozenset[str]:
    return words("given_names.txt")


def family() -> frozenset[str]:
    return words("family_names.txt")


def not_names() -> frozenset[str]:
    return words("not_names.txt")


def eponyms() -> frozenset[str]:
    return words("eponyms.txt")
