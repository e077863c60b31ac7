"""The Merkle tree of RFC 9162 §2.1 over leaf hashes: a frontier to grow it, proofs, and their verification. Pure.

`Frontier` is all an append needs: the roots of the perfect subtrees that make up the tree, largest first, one per set
bit of its size. `Tree` holds every leaf and is built only to make proofs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)  # stands for the leaf before the first one
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """RFC 9162 §2.1.1: SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 9162 §2.1.1: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree of `size` leaves, known by the roots of its perfect subtrees."""

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.nodes) != self.size.bit_count():
            raise ValueError(f"frontier has {len(self.nodes)} nodes, expected {self.size.bit_count()}")

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        """Return the tree with `leaves` (leaf hashes) appended."""
        nodes, size = list(self.nodes), self.size
        for leaf in leaves:
            node, carry = leaf, size
            while carry & 1:
                node = node_hash(nodes.pop(), node)
                carry >>= 1
            nodes.append(node)
            size += 1
        return Frontier(size, tuple(nodes))

    @property
    def root(self) -> bytes:
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = node_hash(node, root)
        return root

    def to_bytes(self) -> bytes:
        return b"".join(self.nodes)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """Raises ValueError when `data` cannot be the frontier of a tree of `size` leaves."""
        if len(data) % HASH_BYTES:
            raise ValueError(f"frontier is {len(data)} bytes, expected a multiple of {HASH_BYTES}")
        return cls(size, tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)))


def growth_proof(older: Frontier, since: Sequence[bytes]) -> list[bytes]:
    """RFC 9162 §2.1.4.1: that `older` is the beginning of the tree that has the leaves `since` behind it.

    The proof `Tree.consistency_proof` makes, without the leaves of `older`: it names perfect subtrees of that one, and
    of the new tree only what lies behind it.
    """
    first, second = older.size, older.size + len(since)
    if not first:
        raise ValueError("nothing is the beginning of every tree")
    if first == second:
        return []
    old, at = {}, 0
    for node, width in zip(older.nodes, _widths(first), strict=True):
        old[at], at = node, at + width
    proof: list[bytes] = []
    low, high, known = 0, second, True
    while first != high:
        middle = low + _split(high - low)
        if first <= middle:
            proof.append(Frontier().extend(since[middle - first : high - first]).root)
            high = middle
        else:
            proof.append(old[low])
            low, known = middle, False
    if not known:
        proof.append(old[low])
    return proof[::-1]


class Tree:
    """Every leaf hash, with the perfect subtrees above them: 64 bytes a leaf. Makes proofs."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        level = bytearray()
        for leaf in leaves:
            level += leaf
        self.size = len(level) // HASH_BYTES
        self._levels = [level]
        while len(level) >= 2 * HASH_BYTES:
            level = _parents(level)
            self._levels.append(level)

    def root(self, size: int | None = None) -> bytes:
        size = self.size if size is None else size
        return self._hash(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """RFC 9162 §2.1.3.1: the path of leaf `index` (from 0) in the tree of the first `size` leaves."""
        self._check(index < size, size)
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._hash(middle, high))
                high = middle
            else:
                path.append(self._hash(low, middle))
                low = middle
        return path[::-1]

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """RFC 9162 §2.1.4.1: that the first `first` leaves are a prefix of the first `second`."""
        self._check(0 < first <= second, second)
        proof: list[bytes] = []
        low, high, known = 0, second, True
        while first != high:
            middle = low + _split(high - low)
            if first <= middle:
                proof.append(self._hash(middle, high))
                high = middle
            else:
                proof.append(self._hash(low, middle))
                low, known = middle, False
        if not known:
            proof.append(self._hash(low, high))
        return proof[::-1]

    def _hash(self, low: int, high: int) -> bytes:
        count = high - low
        if count & (count - 1) == 0 and low % count == 0:
            at = low // count * HASH_BYTES
            return bytes(self._levels[count.bit_length() - 1][at : at + HASH_BYTES])
        middle = low + _split(count)
        return node_hash(self._hash(low, middle), self._hash(middle, high))

    def _check(self, within: bool, size: int) -> None:
        if not within or size > self.size:
            raise ValueError(f"no such proof in a tree of {self.size} leaves")


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162 §2.1.3.2."""
    if index >= size:
        return False
    fn, sn, node = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and node == root


def verify_consistency(
    *, first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """RFC 9162 §2.1.4.2."""
    if first == second:
        return not proof and first_root == second_root
    if not 0 < first < second or not proof:
        return False
    path = list(proof) if first & (first - 1) else [first_root, *proof]
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for node in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(node, fr), node_hash(node, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root


def _parents(level: bytearray) -> bytearray:
    parents = bytearray()
    step = 2 * HASH_BYTES
    for at in range(0, len(level) // step * step, step):
        parents += hashlib.sha256(b"\x01" + level[at : at + step]).digest()
    return parents


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _widths(size: int) -> list[int]:
    """How many leaves the perfect subtrees of a tree have, largest first."""
    return [1 << bit for bit in range(size.bit_length() - 1, -1, -1) if size >> bit & 1]
