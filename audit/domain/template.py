"""Entries that say the same over and over, spelled once: only moment, statement, text and a few values are filled in.

What comes out is, byte for byte, what `chain.prepare` and `journaled.pack` make of the same entry; a test holds that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit.domain.box import Sealer
from audit.domain.canonical import FORMAT_VERSION, canonical, canonical_text
from audit.domain.chain import bound_to, encode_sensitive
from audit.domain.commitment import SALT_BYTES, commitment_to
from audit.domain.entry import Entry, Json, now_us
from audit.domain.journaled import LENGTHS
from audit.domain.randomness import random_bytes
from audit.domain.state import TemplateState

# Stands for a value to be filled in; nobody can make an entry say it.
_BLANK = os.urandom(16).hex()


@dataclass(slots=True)
class Filling:
    """One entry of a template. `values` are canonical, in the order of the blanks' names.

    `spelled` is `sensitive` as `encode_sensitive` has it, from whoever need not build it first.
    """

    statement_id: str
    values: tuple[bytes, ...] = ()
    sensitive: Mapping[str, Json] | None = None
    at_us: int = 0  # 0: now
    spelled: bytes | None = None


class Template(TemplateState):
    """Of one session and one kind of entry. `whole` spells the same entry the ordinary way."""

    def __init__(self, example: Entry, *, blanks: tuple[str, ...] = ()) -> None:
        """`example` is one of them; `blanks` are the members of its body that differ."""
        body = canonical({**example.body, **dict.fromkeys(blanks, _BLANK)})
        self.durability = example.durability
        self._body = tuple(body.split(b'"%b"' % _BLANK.encode()))
        if len(self._body) != len(blanks) + 1:
            raise ValueError(f"the entry has {len(self._body) - 1} of the blanks, expected {len(blanks)}")
        self._kind = b',"kind":%b,"prev":' % canonical_text(example.kind)
        self._session = b'"session":%b,"statement":' % canonical_text(example.session_id)
        self._around = (b"", b"")  # (gateway, what follows the commitment there)

    def payload(self, filling: Filling, *, gateway: bytes, sealer: Sealer) -> bytes:
        """The journal's record of the entry; `gateway` is canonical."""
        if self._around[0] is not gateway:
            self._around = (gateway, b',"gateway":%b%b' % (gateway, self._kind))
        return fill_entry(self._body, self._around[1], self._session, filling, sealer)


def fill_entry(body: tuple[bytes, ...], around: bytes, session: bytes, filling: Filling, sealer: Sealer) -> bytes:
    """The journal's record of an entry: what it says of itself between what all of its template say."""
    commitment = box = b""
    plaintext = filling.spelled
    if plaintext is None and filling.sensitive is not None:
        plaintext = encode_sensitive(filling.sensitive)
    if plaintext is not None:
        salt = random_bytes(SALT_BYTES)
        commitment = commitment_to(plaintext, salt)
        box = sealer.seal(salt + plaintext, bound_to=bound_to(commitment))
    return spell_entry(
        body,
        filling.values,
        filling.at_us or now_us(),
        commitment,
        around,
        session,
        filling.statement_id,
        _ENDING,
        box,
    )


_ENDING = b',"v":%d}' % FORMAT_VERSION


def spell_entry(  # noqa: PLR0917  in the order its compiled twin takes them
    body: tuple[bytes, ...],
    values: tuple[bytes, ...],
    at_us: int,
    commitment: bytes,
    around: bytes,
    session: bytes,
    statement_id: str,
    ending: bytes,
    box: bytes,
) -> bytes:
    """The journal's record of an entry: `values` between the parts of `body`, the rest as `canonical.draft` has it."""
    if len(body) != len(values) + 1:
        raise ValueError(f"an entry of {len(body) - 1} blanks, {len(values)} values")
    parts = [body[0]]
    for value, part in zip(values, body[1:], strict=True):
        parts += (value, part)
    head = b'{"at_us":%d,"body":%b,"commitment":"%b"%b' % (
        at_us,
        b"".join(parts),
        commitment.hex().encode(),
        around,
    )
    tail = session + canonical_text(statement_id) + ending
    return LENGTHS.pack(len(head), len(tail)) + head + tail + box


# An entry spelled the ordinary way, for whoever has to look into it.
Whole = Callable[[], Entry]

spell_entry_python, fill_entry_python, FillingPython = spell_entry, fill_entry, Filling
if not TYPE_CHECKING:
    with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
        from audit.domain._fast import Filling, commitment_to, fill_entry, spell_entry
