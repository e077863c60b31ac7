"""The tree against the Certificate Transparency vectors, and against a verifier written from RFC 9162's definitions."""

from __future__ import annotations

import hashlib

import pytest

from audit.domain.merkle import (
    EMPTY_ROOT,
    Frontier,
    Tree,
    growth_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

# The reference inputs and roots of google/certificate-transparency (merkletree tests), sizes 1 to 8.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(data)) for data in INPUTS]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1, word for word, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def many(count: int) -> list[bytes]:
    return [leaf_hash(str(at).encode()) for at in range(count)]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_published_ones(size):
    assert Frontier().extend(LEAVES[:size]).root.hex() == ROOTS[size - 1]
    assert Tree(LEAVES).root(size).hex() == ROOTS[size - 1]


def test_empty_tree_has_the_hash_of_nothing():
    assert Frontier().root == EMPTY_ROOT == mth([])


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 33, 100])
def test_roots_agree_with_the_definition(size):
    leaves = many(size)

    assert Frontier().extend(leaves).root == Tree(leaves).root() == mth(leaves)


def test_frontier_survives_storage_at_every_size():
    frontier = Frontier()
    for size, leaf in enumerate(many(70), 1):
        frontier = Frontier.from_bytes(size - 1, frontier.to_bytes()).extend([leaf])

    assert frontier.root == mth(many(70))


def test_frontier_of_another_size_is_refused():
    with pytest.raises(ValueError, match="expected 2"):
        Frontier.from_bytes(3, Frontier().extend(many(4)).to_bytes())


def test_every_inclusion_proof_verifies_and_no_other_leaf_does():
    leaves = many(33)
    tree = Tree(leaves)
    for size in (1, 2, 7, 8, 32, 33):
        root = mth(leaves[:size])
        for index in range(size):
            proof = tree.inclusion_proof(index, size)
            assert verify_inclusion(leaf=leaves[index], index=index, size=size, proof=proof, root=root)
            assert not verify_inclusion(leaf=b"x" * 32, index=index, size=size, proof=proof, root=root)
            assert not verify_inclusion(leaf=leaves[index], index=index, size=size, proof=[*proof, root], root=root)
            if size > 1:
                other = (index + 1) % size
                assert not verify_inclusion(leaf=leaves[index], index=other, size=size, proof=proof, root=root)


def test_every_consistency_proof_verifies_and_a_fork_does_not():
    leaves = many(20)
    tree = Tree(leaves)
    for second in range(1, 21):
        for first in range(1, second + 1):
            proof = tree.consistency_proof(first, second)
            roots = {"first_root": mth(leaves[:first]), "second_root": mth(leaves[:second])}
            assert verify_consistency(first=first, second=second, proof=proof, **roots)
            forked = {**roots, "first_root": mth([*leaves[: first - 1], b"x" * 32])}
            assert not verify_consistency(first=first, second=second, proof=proof, **forked)


def test_growth_is_proved_from_a_frontier_as_from_every_leaf():
    leaves = many(40)
    tree = Tree(leaves)
    for second in range(1, 41):
        for first in range(1, second + 1):
            older = Frontier().extend(leaves[:first])
            assert growth_proof(older, leaves[first:second]) == tree.consistency_proof(first, second)


def test_growth_of_nothing_is_no_proof():
    with pytest.raises(ValueError, match="nothing"):
        growth_proof(Frontier(), many(3))
