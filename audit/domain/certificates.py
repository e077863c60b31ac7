"""What a certificate of a purge says, and whether it accounts for something that is gone. Pure: the verifier uses it.

An `evidence.purged` entry names a class of record, the place up to which everything of it may be gone, and the holds
that were in force: what they cover may not. It stands in the log, under a signed checkpoint, before anything is
destroyed. Leaves are never purged, so every proof stays as it was; of what is gone, the commitments remain.

It carries a note of the log's key: `<origin>/purge`, the entry's place, the leaf before it, a digest of what the entry
says, and a time. So nobody without the key can excuse what is gone (docs/decisions/0051). Certificates from before the
notes excuse nothing by themselves: a signed one confirms them (`confirms`), or the auditor accepts them by their hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from audit.domain.keyring import KeyRing
from audit.domain.merkle import leaf_hash
from audit.domain.note import NoteProblem, Signer

KIND = "evidence.purged"
# Sealed texts of these kinds of entries are subjects' tokens, all others statements and reasons.
SUBJECT_KINDS = frozenset({"statement.completed", "statement.subjects"})
TEXTS, RECORDINGS, SUBJECTS, PROJECTIONS = "texts", "recordings", "subjects", "projections"
SUFFIX = "/purge"


class UnsignedCertificate(NoteProblem):
    """A certificate from before they were signed, or one that somebody without the key wrote."""


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
    """Entry `seq`: by whom what of `record_class` up to entry `up_to` and older than `until` may be gone."""

    seq: int
    leaf: bytes
    record_class: str
    until: datetime
    up_to: int
    holds: tuple[Hold, ...]
    by: str
    count: int
    held: int
    confirms: str = ""  # an earlier, unsigned certificate that says the same

    @property
    def acceptance(self) -> str:
        """What names this certificate, and no other one at its place."""
        return f"{self.seq}:{self.leaf.hex()}"

    def covers(self, record_class: str, seq: int, marks: Marks) -> bool:
        """Whether what belonged to entry `seq` may be gone: old enough, and held by nothing then."""
        return (
            self.record_class == record_class
            and seq <= self.up_to
            and marks.at < self.until
            and not any(hold.covers(marks) for hold in self.holds)
        )


def certificate_body(*, signer: Signer, said: Mapping[str, Any], seq: int, prev: bytes, time_s: int) -> dict[str, Any]:
    """The body of the certificate at `seq` behind `prev`. `said`: every member but the note."""
    return {**said, "note": signer.sign(_text(signer.name, seq, prev, _digest(said), time_s))}


def read_certificate(canonical: bytes, *, keys: KeyRing) -> Certificate:
    """The certificate an entry is, signed by the key that counted at its place.

    Raises NoteProblem; UnsignedCertificate where there is no note at all.
    """
    certificate, content = _read(canonical)
    note = content["body"].get("note")
    if note is None:
        raise UnsignedCertificate("the certificate of a purge without a note of the log's key")
    said = {name: value for name, value in content["body"].items() if name != "note"}
    try:
        time_s = int(str(note).partition("\n\n")[0].rpartition("time ")[2])
        prev = bytes.fromhex(content["prev"])
        digest = _digest(said)
    except (ValueError, TypeError, RecursionError):
        raise NoteProblem("the certificate of a purge has a note that cannot be read") from None
    signed = keys.text(str(note), size=certificate.seq)
    if signed not in (_text(key.name, certificate.seq, prev, digest, time_s) for key in keys.keys):
        raise NoteProblem("the note of a purge's certificate is not about this entry")
    return certificate


def read_unsigned(canonical: bytes) -> Certificate:
    """What a certificate says, whoever wrote it. Raises NoteProblem."""
    return _read(canonical)[0]


def _read(canonical: bytes) -> tuple[Certificate, Mapping[str, Any]]:
    try:
        content = json.loads(canonical)
        body, seq = content["body"], int(content["seq"])
        if content["kind"] != KIND:
            raise NoteProblem("not the certificate of a purge")
        certificate = Certificate(
            seq=seq,
            leaf=leaf_hash(canonical),
            record_class=str(body["class"]),
            until=datetime.fromisoformat(body["until"]),
            up_to=int(body["up_to"]),
            holds=tuple(Hold(**{name: str(value) for name, value in hold.items()}) for hold in body["holds"]),
            by=str(body.get("subject") or ""),
            count=int(body.get("count") or 0),
            held=int(body.get("held") or 0),
            confirms=str(body.get("confirms") or ""),
        )
        # Nobody certifies what is still to come.
        beyond = certificate.up_to >= seq or certificate.until > Marks.of(content).at
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, NoteProblem):
            raise
        raise NoteProblem("a purge's certificate cannot be read") from None
    if beyond:
        raise NoteProblem("a purge's certificate reaches beyond its own place")
    return certificate, content


def _digest(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(said), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _text(origin: str, seq: int, prev: bytes, digest: str, time_s: int) -> str:
    return f"{origin}{SUFFIX}\n{seq}\n{prev.hex()}\n{digest}\ntime {time_s}\n"


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
