"""What is called in libcrypto directly: the same bytes as hashlib and `cryptography` make, the same refusals."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from audit.domain.box import EvidenceKey, Sealer
from audit.domain.links import LinksPython

openssl = pytest.importorskip("audit.domain._openssl", reason="no C compiler, no Cython or no libcrypto.so.3")

KEY = os.urandom(32)
CIPHER, LINKS = openssl.AesGcm(KEY), openssl.Links(KEY)


@given(nonce=st.binary(min_size=12, max_size=12), data=st.binary(max_size=300), bound=st.binary(max_size=100))
def test_boxes_are_sealed_alike_by_one_cipher_used_again(nonce, data, bound):
    assert CIPHER.encrypt(nonce, data, bound) == AESGCM(KEY).encrypt(nonce, data, bound)


@given(previous=st.binary(min_size=16, max_size=16), payload=st.binary(max_size=400))
def test_links_are_made_alike_by_one_key_used_again(previous, payload):
    assert LINKS.link(previous, payload) == LinksPython(KEY).link(previous, payload)


@given(key=st.binary(min_size=1, max_size=64))
def test_keys_of_every_length_link_alike(key):
    assert openssl.Links(key).link(bytes(16), b"payload") == LinksPython(key).link(bytes(16), b"payload")


@pytest.mark.parametrize("key", [b"", bytes(65)])
def test_keys_of_other_lengths_are_refused(key):
    with pytest.raises(ValueError, match="1 to 64"):
        openssl.Links(key)


def test_what_is_no_key_nonce_or_link_is_refused():
    for refused in (
        lambda: openssl.AesGcm(bytes(16)),
        lambda: CIPHER.encrypt(bytes(11), b"data", b""),
        lambda: LINKS.link(bytes(15), b"payload"),
    ):
        with pytest.raises(ValueError, match="bytes"):
            refused()


def test_a_sealer_seals_by_it_and_opens_by_the_other():
    sealer = Sealer([EvidenceKey(KEY)])

    box = sealer.seal(b"text", bound_to=b"place")

    assert type(sealer._current[1]) is openssl.AesGcm
    assert sealer.open(box, bound_to=b"place") == b"text"
