"""An entry's canonical bytes (RFC 8785, integers only). Pure.

An entry is one JSON object with the members `at_us body commitment gateway kind prev seq session statement v`. All but
`prev` and `seq` are known before the log's lock is taken, so `Draft` keeps the canonical text around those two and
`Draft.at` only fills them in: under the lock an entry costs two string joins and a SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import rfc8785

from audit.domain.entry import Entry, Json

FORMAT_VERSION = 1
_MAX_INTEGER = 2**53 - 1  # RFC 8785 §3.2.2.3: beyond it, readers of JSON numbers disagree


class EntryRefused(ValueError):
    """The entry cannot be written in canonical form (a float, an integer past 2^53, an unknown type)."""


class Draft(NamedTuple):
    """An entry in canonical form, still without its place in the log."""

    head: bytes  # everything before the value of `prev`
    tail: bytes  # everything after the value of `seq`

    def at(self, *, seq: int, prev: bytes) -> bytes:
        """Return the canonical entry at place `seq` (from 1) after the leaf `prev`."""
        return b'%b"%b","seq":%d,%b' % (self.head, prev.hex().encode(), seq, self.tail)


class CanonicalBody(dict[str, Json]):
    """The body of many entries that say the same: put into canonical form once. Never changed once it is made.

    `memo` keeps what else is worked out from it alone, by who did.
    """

    @cached_property
    def canonical(self) -> bytes:
        return canonical(self)

    @cached_property
    def memo(self) -> dict[Any, Any]:
        return {}


def draft(entry: Entry, *, gateway: str, commitment: bytes = b"") -> Draft:
    """Return `entry` in canonical form. Raises EntryRefused; lone surrogates become U+FFFD, so no text refuses."""
    body = entry.body.canonical if isinstance(entry.body, CanonicalBody) else canonical(entry.body)
    head = b'{"at_us":%d,"body":%b,"commitment":"%b","gateway":%b,"kind":%b,"prev":' % (
        _integer(entry.at_us),
        body,
        commitment.hex().encode(),
        canonical_text(gateway),
        canonical_text(entry.kind),
    )
    tail = b'"session":%b,"statement":%b,"v":%d}' % (
        canonical_text(entry.session_id),
        canonical_text(entry.statement_id),
        FORMAT_VERSION,
    )
    return Draft(head=head, tail=tail)


# The standard library's C encoder writes what RFC 8785 asks for as long as keys sort alike as code points and as
# UTF-16 units, which ASCII keys do, and nothing is a float: both say `\b \t \n \f \r \" \\` and `\u00xx`.
_QUOTE = json.encoder.encode_basestring
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False).encode


def canonical(value: Json) -> bytes:
    """Return `value` as RFC 8785 JSON. Raises EntryRefused."""
    if _is_plain(value):
        return _ENCODE(value).encode()
    keys_sort_alike = [True]
    plain = _plain(value, keys_sort_alike)
    if keys_sort_alike[0]:
        return _ENCODE(plain).encode()
    try:
        return rfc8785.dumps(plain)
    except rfc8785.CanonicalizationError as error:
        raise EntryRefused(f"entry has no canonical form: {error}") from None


def canonical_text(value: str) -> bytes:
    """`canonical` of a string; the encoder itself ends in the same function."""
    return _QUOTE(value if value.isascii() else _valid(value)).encode()


def _is_plain(value: Any) -> bool:
    """Whether `value` can be written as it is: exactly JSON's own types, ASCII, small integers. Most entries are."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii())
    if kind is int:
        return bool(-_MAX_INTEGER <= value <= _MAX_INTEGER)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii() or not _is_plain(item):
                return False
        return True
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))
    return value is None or kind is bool


def _integer(value: int) -> int:
    if abs(value) > _MAX_INTEGER:
        raise EntryRefused("entry holds an integer past 2^53, expected no more than 2^53 - 1")
    return int(value)


def _plain(value: Json, keys_sort_alike: list[bool]) -> Any:
    """Copy `value` with plain types and valid Unicode, refusing what canonical integers-only JSON does not have.

    `keys_sort_alike` becomes [False] when an object has a key beyond ASCII.
    """
    if isinstance(value, str):
        return value if type(value) is str and value.isascii() else _valid(str(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) and key.isascii() for key in value):
            keys_sort_alike[0] = False
        return {_valid(key): _plain(item, keys_sort_alike) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, keys_sort_alike) for item in value]
    raise EntryRefused(f"entry holds a {type(value).__name__}, expected text, an integer, a list or an object")


def _valid(text: str) -> str:
    # A client chooses some of these words; one it can make unwritable would be an attempt nobody sees.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
