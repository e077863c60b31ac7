"""What a statement is found by: `read:public.patients`, `write:…`, `column:…`, `class:ssn`, `rule:…`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LISTS = {"tables_read": "read", "tables_written": "write", "columns_read": "column", "classes": "class"}
_SINGLE = {"rule": "rule", "decision": "decision", "code": "code"}

# A decision as pages tell it; the log, searches and exports have the code.
DECISIONS = {"allow": "allowed", "require_approval": "needed a reviewer", "deny": "denied"}

# What an index takes of a word is some 2,700 bytes: a longer one would be refused, and with it the entry.
MAX_WORD = 600


def words_of(body: Mapping[str, Any]) -> list[str]:
    """The words of an entry's body, sorted, each once; cut where they are too long to be searched for."""
    words = {f"{prefix}:{item}" for name, prefix in _LISTS.items() for item in body.get(name) or ()}
    words |= {f"{prefix}:{body[name]}" for name, prefix in _SINGLE.items() if body.get(name)}
    return sorted({word.replace("\x00", "")[:MAX_WORD] for word in words})


def kind_words(kind: str) -> str:
    """A kind of statement as SQL spells it: `COPY TO`. Policies, searches and the log name it `COPY_TO`."""
    return kind.replace("_", " ")


def qualified(table: str) -> str:
    """A table as the log names it: with its schema, `public` unless another is given."""
    return table if "." in table else f"public.{table}"
