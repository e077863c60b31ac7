"""Where the reading of a bundle stands, and what it proves in the end. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from audit.domain.certificates import Certificate
from audit.domain.commitment import StreamDigest
from audit.domain.findings import Finding
from audit.domain.keyring import KeyRing, Rotation
from audit.domain.merkle import GENESIS, Frontier
from audit.domain.note import Checkpoint, Verifier
from audit.domain.restoration import Restoration

MAX_FINDINGS = 1_000  # kept: a file of garbage would otherwise be remembered line by line


class Verdict(IntEnum):
    INTACT = 0
    TAMPERED = 1
    UNANCHORED = 2
    UNUSABLE = 3


class Unusable(ValueError):
    """The input is not something that could be verified."""


def moment(seconds: int) -> str:
    """Unix seconds as an auditor reads them. A bundle may name any number: past the calendar's end it stays one."""
    try:
        return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"Unix time {seconds}"


@dataclass(frozen=True, slots=True)
class Report:
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    entries: int = 0
    checkpoints: int = 0
    covered: int = 0  # entries up to here are under a signed checkpoint
    signed_at_s: int | None = None
    absent: int = 0
    sealed: bool = False
    anchors: tuple[str, ...] = ()  # what others' proofs say, in lines
    recordings: Mapping[str, int] | None = None  # what the exporter found of them: named, intact, lost, settling
    restored: tuple[str, ...] = ()  # restorations nobody accepted, in lines; with any, the verdict is TAMPERED
    accepted: tuple[str, ...] = ()  # restorations the auditor accepted
    compared: tuple[int, int] | None = None  # of the notes the auditor holds, how many were held against a part: of all
    purges: tuple[str, ...] = ()  # what certificates say may be gone, in lines


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whom and what the one who verifies believes beside the log's key.

    PEM roots of time stamps, witnesses' keys, and restorations and unsigned certificates of purges, accepted by place
    and hash of their entry.
    """

    tsa_roots: str = ""
    witnesses: tuple[str, ...] = ()
    restorations: frozenset[tuple[int, bytes]] = frozenset()
    certificates: frozenset[tuple[int, bytes]] = frozenset()


@dataclass(slots=True)
class Walk:
    """Where the reading of a bundle stands."""

    pinned: Sequence[Verifier]
    keys: KeyRing
    header: Mapping[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    reported: list[Finding] = field(default_factory=list)  # by the exporter
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    proofs: dict[int, list[bytes]] = field(default_factory=dict)
    unlinked: int = 0  # in a part: the first checkpoint that came without its proof
    unproved: int = 0  # in a part: the first entry that was held against no signed root
    entries: int = 0
    last: int = 0
    prev: bytes = GENESIS
    frontier: Frontier = field(default_factory=Frontier)
    recordings: set[str] = field(default_factory=set)  # named by entries
    named_at: list[int] = field(default_factory=list)  # the entries that name one as their result
    streams: dict[str, StreamDigest] = field(default_factory=dict)
    displaced: list[tuple[int, int]] = field(default_factory=list)  # (stored place, own place) from the first bad entry
    counted: dict[str, int] | None = None  # recordings, as the exporter counted them in the whole log
    absent: int = 0  # recordings the exporter no longer has
    rotations: list[Rotation] = field(default_factory=list)  # as the bundle's head states them
    rotated_at: dict[int, str] = field(default_factory=dict)  # entry that rotates → its note
    trusted: Trusted = field(default_factory=Trusted)
    anchors: list[str] = field(default_factory=list)
    began: bool = False  # keys and anchors are known, what is signed may be judged
    certificates: list[Certificate] = field(default_factory=list)  # of purges, those that are believed
    judged: dict[bytes, Certificate | None] = field(default_factory=dict)  # by leaf: None excuses nothing
    unsigned: dict[str, Certificate] = field(default_factory=dict)  # by what names them: without a note of the key
    claimed: dict[int, bytes] = field(default_factory=dict)  # certificates the entries must still show: place → leaf
    purged: int = 0  # recordings that certificates account for, by the entries that name them
    declared: list[tuple[bytes, list[bytes]]] = field(default_factory=list)  # restorations' entries and proofs
    restorations: list[Restoration] = field(default_factory=list)  # those with a note of the log's keys
    restoration_proofs: dict[int, list[bytes]] = field(default_factory=dict)
    restored_at: dict[int, bytes] = field(default_factory=dict)  # entries of the log that are restorations → leaf
    held: dict[tuple[int, bytes], Restoration | None] = field(default_factory=dict)  # the auditor's; who disowns it
    ended: bool = False
    sealed: bool = False

    @property
    def whole(self) -> bool:
        return bool(self.header["scope"].get("kind") == "all")

    @property
    def unbroken(self) -> bool:
        """Whether the entries must follow one another without a hole."""
        return self.header["scope"].get("kind") not in ("session", "selection")

    @property
    def signed(self) -> Checkpoint | None:
        """In a bundle of a part: the checkpoint that all proofs lead to."""
        return self.checkpoints.get(int(self.header["size"]))

    def bad(self, seq: int, kind: str, detail: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(seq, kind, detail))
