"""The keys a log was signed with, one after the other, and for which sizes of the log each one counts. Pure.

A rotation is a note signed by both keys: the old one names its successor, the new one accepts. Its text is
`<origin>/key-rotation`, the place of its entry in the log, the old and the new verifier key, and a time. Whoever pins
any one key of the chain can follow it in both directions, and nobody can lengthen it without the key it ends in. A
retired key counts up to its rotation alone: stolen later, it signs nothing that goes beyond.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from audit.domain.note import Checkpoint, NoteProblem, Signer, UnknownKey, Verifier, open_checkpoint, open_note

SUFFIX = "/key-rotation"
ENDLESS = 1 << 62


class RetiredKey(NoteProblem):
    """Signed by a key of this log at a size it does not count for."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Entry `seq` of the log hands over from `old` to `new`."""

    origin: str
    seq: int
    old: Verifier
    new: Verifier
    time_s: int
    note: str


@dataclass(frozen=True, slots=True)
class Term:
    """A key and the sizes of the log it signs: from `first` to `last`, both included."""

    key: Verifier
    first: int = 0
    last: int = ENDLESS

    def covers(self, size: int) -> bool:
        return self.first <= size <= self.last


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Every key that is trusted, with its term."""

    terms: tuple[Term, ...]

    @classmethod
    def of(cls, *keys: Verifier) -> KeyRing:
        return cls(tuple(Term(key) for key in keys))

    @property
    def keys(self) -> list[Verifier]:
        return [term.key for term in self.terms]

    def checkpoint(self, note: str) -> Checkpoint:
        """The verified checkpoint. Raises NoteProblem; RetiredKey when its key does not count for its size."""
        checkpoint = open_checkpoint(note, self.keys)
        self.text(note, size=checkpoint.size)
        return checkpoint

    def text(self, note: str, *, size: int) -> str:
        """The verified text of a note about a log of `size` entries. Raises NoteProblem or RetiredKey."""
        open_note(note, self.keys)
        try:
            return open_note(note, [term.key for term in self.terms if term.covers(size)])
        except UnknownKey:
            raise RetiredKey(f"signed for {size} entries by a key of this log that does not count there") from None

    def extended(self, rotations: Sequence[Rotation]) -> KeyRing:
        """This ring with every key that rotations link to one of its keys, forwards or backwards."""
        terms = {term.key: term for term in self.terms}
        linked = True
        while linked:
            linked = False
            for rotation in rotations:
                if (rotation.old in terms) != (rotation.new in terms):
                    terms.setdefault(rotation.old, Term(rotation.old))
                    terms.setdefault(rotation.new, Term(rotation.new))
                    linked = True
        for rotation in rotations:
            if rotation.old in terms:
                terms[rotation.old] = replace(terms[rotation.old], last=rotation.seq)
                terms[rotation.new] = replace(terms[rotation.new], first=rotation.seq)
        return KeyRing(tuple(terms.values()))


def rotation_note(*, old: Signer, new: Signer, seq: int, time_s: int) -> str:
    """The note that hands over, signed by both."""
    text = f"{old.name}{SUFFIX}\n{seq}\n{old.verifier.vkey}\n{new.verifier.vkey}\ntime {time_s}\n"
    return old.sign(text) + new.sign(text).removeprefix(f"{text}\n")


def open_rotation(note: str) -> Rotation:
    """The rotation a note states, once both keys it names have signed it. Trusts neither. Raises NoteProblem."""
    lines = note.partition("\n\n")[0].split("\n")
    if len(lines) != 5 or not lines[0].endswith(SUFFIX) or not (lines[1].isascii() and lines[1].isdecimal()):
        raise NoteProblem("not a key rotation, expected origin, entry, old key, new key, time")
    old, new = Verifier.parse(lines[2]), Verifier.parse(lines[3])
    word, _, time_s = lines[4].partition(" ")
    origin = lines[0].removesuffix(SUFFIX)
    if word != "time" or not time_s.isdecimal() or {old.name, new.name} != {origin} or old == new:
        raise NoteProblem("not a key rotation of this log")
    for key in (old, new):
        open_note(note, [key])
    return Rotation(origin, int(lines[1]), old, new, int(time_s), note)


def chain_problem(rotations: Iterable[Rotation]) -> str:
    """Why these cannot be the rotations of one log, or nothing: each hands over what the one before handed to it."""
    held: Verifier | None = None
    seq = 0
    for rotation in rotations:
        if held is not None and rotation.old != held:
            return f"entry {rotation.seq} hands over a key that was not the log's"
        if rotation.seq <= seq:
            return f"entry {rotation.seq} stands before an earlier rotation"
        held, seq = rotation.new, rotation.seq
    return ""
