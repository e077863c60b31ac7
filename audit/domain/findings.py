"""What a check can find, and the parts of a stored entry a check reads. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

RECORDING_LOST = "recording.lost"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first place that is not as written. `seq` 0: not at an entry (a key, a file)."""

    seq: int
    kind: str
    detail: str

    def __str__(self) -> str:
        where = f"entry {self.seq}" if self.seq else "the log"
        return f"{where}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Place:
    """What an entry says of itself."""

    seq: int
    prev: bytes
    commitment: bytes
    session: str
    kind: str
    recording: str

    @property
    def names_recording(self) -> bool:
        """Whether a result was recorded under this entry (a loss names the same recording once more)."""
        return bool(self.recording) and self.kind != RECORDING_LOST


def read_place(canonical: bytes) -> Place | None:
    """Return what the entry says, or None when it is not an entry at all."""
    try:
        value = json.loads(canonical)
        recording = value["body"].get("recording", "")
        return Place(
            seq=int(value["seq"]),
            prev=bytes.fromhex(value["prev"]),
            commitment=bytes.fromhex(value["commitment"]),
            session=str(value["session"]),
            kind=str(value["kind"]),
            recording=recording if isinstance(recording, str) else "",
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def stands_behind(canonical: bytes, *, seq: int, prev: bytes) -> bool:
    """Whether an entry says that it is number `seq` behind `prev`, seen without parsing it. False: parse it.

    No string can hold these bytes (its quotes are escaped) and nothing but strings and a number follows these members,
    so their last occurrence is the entry's own.
    """
    at = canonical.rfind(b',"prev":"')
    return at > 0 and canonical.startswith(b',"prev":"%b","seq":%d,"session":"' % (prev.hex().encode(), seq), at)


def place_of(place: Place | None) -> int | None:
    return None if place is None else place.seq
