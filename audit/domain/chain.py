"""What an entry becomes in the log: a canonical leaf in a hash chain, its sensitive text in a box beside it. Pure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from audit.domain.box import Sealer
from audit.domain.canonical import Draft, draft
from audit.domain.commitment import SALT_BYTES, Disclosure
from audit.domain.entry import Entry, Json
from audit.domain.merkle import Frontier, leaf_hash
from audit.domain.randomness import random_bytes


class Prepared(NamedTuple):
    """An entry ready for the log but for its place in it: everything slow is done before the log is locked."""

    entry: Entry
    gateway: str
    draft: Draft
    box: bytes  # sealed text, empty when there is none


class Leaf(NamedTuple):
    seq: int
    prev: bytes
    canonical: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The log's end: its size, the newest leaf's hash, and the tree."""

    frontier: Frontier
    leaf: bytes

    @property
    def size(self) -> int:
        return self.frontier.size


def prepare(entry: Entry, *, gateway: str, sealer: Sealer) -> Prepared:
    """Canonicalise, commit and seal. Raises EntryRefused."""
    if entry.sensitive is None:
        return Prepared(entry, gateway, draft(entry, gateway=gateway), b"")
    plaintext = encode_sensitive(entry.sensitive)
    disclosure = Disclosure(plaintext, random_bytes(SALT_BYTES))
    commitment = disclosure.commitment
    box = sealer.seal(disclosure.salt + plaintext, bound_to=bound_to(commitment))
    return Prepared(entry, gateway, draft(entry, gateway=gateway, commitment=commitment), box)


def open_box(box: bytes, *, commitment: bytes, sealer: Sealer) -> Disclosure:
    """Open the sealed text of the entry whose leaf holds `commitment`. Raises SealProblem."""
    # The box opens only under its own commitment, so a box moved to another entry is noticed here.
    opened = sealer.open(box, bound_to=bound_to(commitment))
    return Disclosure(plaintext=opened[SALT_BYTES:], salt=opened[:SALT_BYTES])


def link(head: Head, prepared: Sequence[Prepared]) -> tuple[list[Leaf], Head]:
    """Give each entry its place after `head`. Returns the leaves and the new head."""
    leaves, nodes = link_entries(head.leaf, head.size, head.frontier.nodes, prepared)
    if not leaves:
        return leaves, head
    return leaves, Head(Frontier(leaves[-1].seq, nodes), leaves[-1].hash)


def link_entries(
    prev: bytes, size: int, nodes: tuple[bytes, ...], prepared: Sequence[Prepared]
) -> tuple[list[Leaf], tuple[bytes, ...]]:
    """The leaves after `prev`, the newest of so many, and what the nodes of the frontier become."""
    leaves: list[Leaf] = []
    for seq, item in enumerate(prepared, size + 1):
        canonical = item.draft.at(seq=seq, prev=prev)
        leaf = Leaf(seq, prev, canonical, leaf_hash(canonical))
        leaves.append(leaf)
        prev = leaf.hash
    return leaves, Frontier(size, nodes).extend(leaf.hash for leaf in leaves).nodes


link_entries_python = link_entries
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._intake import link_entries


def bound_to(commitment: bytes) -> bytes:
    return b"hoopweb log text\x00" + commitment


def _plain(value: Json) -> object:
    # Mappings and sequences of other types than dict and list, which Json allows and json.dumps does not.
    return dict(value) if hasattr(value, "keys") else list(value)  # type: ignore[arg-type]


def encode_sensitive(sensitive: Mapping[str, Json]) -> bytes:
    """The plaintext of an entry's box."""
    return _SENSITIVE(sensitive).encode()


# ASCII escapes keep what no canonical form has (lone surrogates): the text is evidence, byte for byte.
_SENSITIVE = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=_plain).encode
encode_text = json.encoder.encode_basestring_ascii  # one string of it, as text
