"""An entry's canonical bytes (RFC 8785, integers only). Pure.

An entry is one JSON object with the members `at_us body commitment gateway kind prev seq session statement v`. All but
`prev` and `seq` are known before the log's lock is taken, so `Draft` keeps the canonical text around those two and
`Draft.at` only fills them in: under the lock an entry costs two string joins and a SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from audit.domain.entry import Entry, Json

FORMAT_VERSION = 1
_MAX_INTEGER = 2**53 - 1  # RFC 8785 §3.2.2.3: beyond it, readers of JSON numbers disagree


class EntryRefused(ValueError):
    """The entry cannot be written in canonical form (a float, an integer past 2^53, an unknown type)."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry in canonical form, still without its place in the log."""

    head: bytes  # everything before the value of `prev`
    tail: bytes  # everything after the value of `seq`

    def at(self, *, seq: int, prev: bytes) -> bytes:
        """Return the canonical entry at place `seq` (from 1) after the leaf `prev`."""
        return b'%b"%b","seq":%d,%b' % (self.head, prev.hex().encode(), seq, self.tail)


def draft(entry: Entry, *, gateway: str, commitment: bytes = b"") -> Draft:
    """Return `entry` in canonical form. Raises EntryRefused; lone surrogates become U+FFFD, so no text refuses."""
    head = canonical(
        {
            "at_us": entry.at_us,
            "body": entry.body,
            "commitment": commitment.hex(),
            "gateway": gateway,
            "kind": entry.kind,
        }
    )
    tail = canonical({"session": entry.session_id, "statement": entry.statement_id, "v": FORMAT_VERSION})
    return Draft(head=head[:-1] + b',"prev":', tail=tail[1:])


def canonical(value: Json) -> bytes:
    """Return `value` as RFC 8785 JSON. Raises EntryRefused."""
    try:
        return rfc8785.dumps(_plain(value))
    except rfc8785.CanonicalizationError as error:
        raise EntryRefused(f"entry has no canonical form: {error}") from None


def _plain(value: Json) -> Any:
    """Copy `value` with plain types and valid Unicode, refusing what canonical integers-only JSON does not have."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _valid(value)
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise EntryRefused("entry holds an integer past 2^53, expected no more than 2^53 - 1")
        return int(value)
    if isinstance(value, Mapping):
        return {_valid(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise EntryRefused(f"entry holds a {type(value).__name__}, expected text, an integer, a list or an object")


def _valid(text: str) -> str:
    # A client chooses some of these words; one it can make unwritable would be an attempt nobody sees.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
