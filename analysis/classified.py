"""What a person says functions of a database read, and of which code they say it.

A word names the function with its argument types and the digest of its definition, as `manage.py functions` prints
both: code that is replaced, and another function of the same name, are not what the person looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.statement import ColumnRef

_WORD = re.compile(r"(?P<function>.+\)) = (?P<digest>[0-9a-f]{64}):(?P<columns>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Word:
    """`function` is `schema.name(type,…)`, `digest` 64 hexadecimal digits."""

    function: str
    digest: str
    columns: frozenset[ColumnRef]


def parse_classified(text: str) -> tuple[Word, ...]:
    """Read `schema.name(types) = digest: schema.table.column, …; …`; nothing behind the colon: it reads nothing.

    Raises ValueError on any other form.

    >>> [word.function for word in parse_classified(f"public.slug(text) = {'0' * 64}:")]
    ['public.slug(text)']
    """
    words: dict[str, Word] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        found = _WORD.fullmatch(part)
        if found is None or found["function"] in words:
            raise ValueError(
                "expected each function once, as `manage.py functions` prints it: "
                "schema.function(types) = digest: schema.table.column, …"
            )
        columns = frozenset(_column(each.strip()) for each in found["columns"].split(",") if each.strip())
        words[found["function"]] = Word(found["function"], found["digest"], columns)
    return tuple(words.values())


def _column(text: str) -> ColumnRef:
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):
        raise ValueError("expected columns as schema.table.column")
    return ColumnRef(*parts)
