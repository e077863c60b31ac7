"""Sealing: what is altered, moved or under another key does not open; rotation keeps the old readable."""

from __future__ import annotations

import pytest

from audit.domain.box import EvidenceKey, KeyProblem, Sealer, SealProblem, parse_keys

OLD, NEW = EvidenceKey(b"o" * 32), EvidenceKey(b"n" * 32)


def test_a_box_opens_with_its_binding_only():
    box = Sealer([NEW]).seal(b"text", bound_to=b"entry 1")

    assert Sealer([NEW]).open(box, bound_to=b"entry 1") == b"text"
    with pytest.raises(SealProblem, match="moved"):
        Sealer([NEW]).open(box, bound_to=b"entry 2")


def test_every_flipped_byte_is_noticed():
    box = Sealer([NEW]).seal(b"text", bound_to=b"")

    for at in range(len(box)):
        broken = bytearray(box)
        broken[at] ^= 1
        with pytest.raises(SealProblem):
            Sealer([NEW]).open(bytes(broken), bound_to=b"")


def test_rotation_seals_new_and_opens_old():
    before = Sealer([OLD]).seal(b"text", bound_to=b"")
    rotated = Sealer([NEW, OLD])

    assert rotated.open(before, bound_to=b"") == b"text"
    with pytest.raises(SealProblem, match="not configured"):
        Sealer([OLD]).open(rotated.seal(b"text", bound_to=b""), bound_to=b"")


def test_the_same_text_never_seals_alike():
    sealer = Sealer([NEW])

    assert sealer.seal(b"text", bound_to=b"") != sealer.seal(b"text", bound_to=b"")


@pytest.mark.parametrize("text", ["", " , ", "not base64!", "c2hvcnQ="])
def test_bad_keys_are_named(text):
    with pytest.raises(KeyProblem):
        Sealer(parse_keys(text))
