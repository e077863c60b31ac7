"""What a certificate of a purge says, and whether it accounts for something that is gone. Pure: the verifier uses it.

An `evidence.purged` entry names a class of record, the place up to which everything of it may be gone, and the holds
that were in force: what they cover may not. It stands in the log, under a signed checkpoint, before anything is
destroyed. Leaves are never purged, so every proof stays as it was; of what is gone, the commitments remain.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

KIND = "evidence.purged"
# Sealed texts of these kinds of entries are subjects' tokens, all others statements and reasons.
SUBJECT_KINDS = frozenset({"statement.completed", "statement.subjects"})
TEXTS, RECORDINGS, SUBJECTS, PROJECTIONS = "texts", "recordings", "subjects", "projections"


@dataclass(frozen=True, slots=True)
class Hold:
    """Everything given must fit; nothing given fits everything. Moments are ISO 8601."""

    subject: str = ""
    connection: str = ""
    session: str = ""
    since: str = ""
    until: str = ""

    def covers(self, what: Marks) -> bool:
        named = ((self.subject, what.subject), (self.connection, what.connection), (self.session, what.session))
        if any(asked and asked != found for asked, found in named):
            return False
        return not (
            (self.since and what.at < datetime.fromisoformat(self.since))
            or (self.until and what.at >= datetime.fromisoformat(self.until))
        )


@dataclass(frozen=True, slots=True)
class Marks:
    """What holds go by, of one entry."""

    subject: str
    connection: str
    session: str
    at_us: int

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.at_us)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Marks:
        body = content["body"]
        return cls(
            str(body.get("subject") or ""),
            str(body.get("connection") or ""),
            str(content["session"]),
            int(content["at_us"]),
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    record_class: str
    until: datetime
    up_to: int
    holds: tuple[Hold, ...]

    def covers(self, record_class: str, seq: int, marks: Marks) -> bool:
        """Whether what belonged to entry `seq` may be gone: old enough, and held by nothing then."""
        return (
            self.record_class == record_class
            and seq <= self.up_to
            and marks.at < self.until
            and not any(hold.covers(marks) for hold in self.holds)
        )


def read_certificate(content: Mapping[str, Any]) -> Certificate | None:
    """The certificate an entry's content is, or None. Raises ValueError when it is one and cannot be read."""
    if content.get("kind") != KIND:
        return None
    body = content["body"]
    try:
        holds = tuple(Hold(**{name: str(value) for name, value in hold.items()}) for hold in body["holds"])
        return Certificate(str(body["class"]), datetime.fromisoformat(body["until"]), int(body["up_to"]), holds)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("a purge's certificate cannot be read") from None


def certified(certificates: Iterable[Certificate], *, record_class: str, seq: int, marks: Marks) -> bool:
    """Whether what belonged to entry `seq` may be gone."""
    return any(certificate.covers(record_class, seq, marks) for certificate in certificates)


def certified_entry(certificates: Iterable[Certificate], *, canonical: bytes, record_class: str = "") -> bool:
    """Whether an entry's sealed text (or, of `record_class`, what it names) may be gone."""
    certificates = tuple(certificates)
    if not certificates:
        return False
    try:
        content = json.loads(canonical)
        by_kind = SUBJECTS if content["kind"] in SUBJECT_KINDS else TEXTS
        return certified(
            certificates,
            record_class=record_class or by_kind,
            seq=int(content["seq"]),
            marks=Marks.of(content),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return False
