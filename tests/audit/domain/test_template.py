"""A template spells exactly what the ordinary way spells; only salts and nonces differ."""

from __future__ import annotations

import hmac
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.domain.box import EvidenceKey, Sealer
from audit.domain.canonical import canonical, canonical_text
from audit.domain.chain import encode_sensitive, open_box, prepare
from audit.domain.commitment import commitment_to
from audit.domain.entry import Entry
from audit.domain.journaled import unpack
from audit.domain.template import Filling, Template

SEALER = Sealer([EvidenceKey(os.urandom(32))])
TEXT = st.text(max_size=20)
BODIES = st.dictionaries(st.text(max_size=8), TEXT | st.integers(-9, 9) | st.booleans() | st.lists(TEXT, max_size=3))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    body = draw(BODIES) | {"rows": draw(st.integers(0, 2**40)), "tag": draw(TEXT)}
    sensitive = draw(st.none() | st.dictionaries(TEXT, TEXT))
    return Entry(draw(TEXT), body, draw(TEXT), draw(TEXT), sensitive, at_us=draw(st.integers(1, 2**50)))


@given(entry=entries(), gateway=TEXT, spelled=st.booleans())
def test_template_spells_what_prepare_spells(entry, gateway, spelled):
    example = replace(entry, body={**entry.body, "rows": 0, "tag": ""}, statement_id="", sensitive=None, at_us=1)

    template = Template(example, blanks=("rows", "tag"))
    values = (canonical(entry.body["rows"]), canonical(entry.body["tag"]))
    filling = Filling(entry.statement_id, values, entry.sensitive, at_us=entry.at_us)
    if spelled and entry.sensitive is not None:
        filling.sensitive, filling.spelled = None, encode_sensitive(entry.sensitive)
    found = unpack(template.payload(filling, gateway=canonical_text(gateway), sealer=SEALER))

    expected = prepare(entry, gateway=gateway, sealer=SEALER)
    ours, theirs = (json.loads(item.draft.at(seq=1, prev=b"")) for item in (found, expected))
    commitment = bytes.fromhex(ours["commitment"])
    if entry.sensitive is None:
        assert (found.draft, found.box) == (expected.draft, b"")
    else:
        disclosed = [
            open_box(item.box, commitment=bytes.fromhex(said["commitment"]), sealer=SEALER)
            for item, said in ((found, ours), (expected, theirs))
        ]
        assert disclosed[0].plaintext == disclosed[1].plaintext
        assert disclosed[0].commitment == commitment
        assert ours | {"commitment": ""} == theirs | {"commitment": ""}
        blank = (item.draft.head.replace(said["commitment"].encode(), b"") for item, said in
                 ((found, ours), (expected, theirs)))  # fmt: skip
        assert len(set(blank)) == 1
        assert found.draft.tail == expected.draft.tail


def test_template_refuses_values_it_has_no_place_for():
    template = Template(Entry("kind", {"rows": 1}), blanks=("rows",))

    with pytest.raises(ValueError, match="1 blanks, 2 values"):
        template.payload(Filling("s", (b"1", b"2")), gateway=b'""', sealer=SEALER)


@given(plaintext=st.binary(max_size=300), salt=st.binary(max_size=64))
def test_commitment_is_an_hmac(plaintext, salt):
    assert commitment_to(plaintext, salt) == hmac.digest(salt, plaintext, "sha256")


def test_commitment_refuses_a_salt_that_would_have_to_be_hashed():
    with pytest.raises(ValueError, match="no more than 64"):
        commitment_to(b"text", bytes(65))
