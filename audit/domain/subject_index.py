"""The index of subjects: written in the transaction of the entry that holds the tokens, compared with it by checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.domain.box import SealProblem
from audit.domain.chain import Leaf, Prepared, open_box
from audit.domain.entry import Entry
from audit.domain.findings import Finding, read_place
from audit.domain.sealing import evidence_sealer
from audit.domain.sending import send
from audit.domain.subjects import has_tokens, tokens_in
from audit.models import LogEntry, SealedText, SubjectSighting

CARRIERS = ("statement.completed", "statement.subjects")
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Sighting:
    token: bytes
    seq: int
    key: int
    name: str


def index_subjects(leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> None:
    """Index the tokens of these entries. Raises when an entry that names some cannot be read: nothing is appended."""
    found = [
        sighting
        for leaf, item in zip(leaves, prepared, strict=True)
        if names_subjects(item.entry)
        for sighting in _sightings(leaf.seq, _sealed(item))
    ]
    if found:
        insert_sightings(found)


def names_subjects(entry: Entry) -> bool:
    """Whether subjects are named in its sealed text, which the index has to have."""
    return entry.kind in CARRIERS and has_tokens(entry.body)


def insert_sightings(found: Sequence[Sighting]) -> None:
    send(
        "INSERT INTO audit_subjectsighting (token, seq, key, name)"
        " SELECT * FROM unnest(%b::bytea[], %s::bigint[], %s::int[], %s::text[]) ON CONFLICT DO NOTHING",
        [
            [s.token for s in found],
            [s.seq for s in found],
            [s.key for s in found],
            [s.name for s in found],
        ],
    )


def _sealed(item: Prepared) -> Mapping[str, object]:
    """The sensitive text of an entry; one that came through the journal has it in its box alone."""
    if item.entry.sensitive is not None:
        return item.entry.sensitive
    place = read_place(item.draft.at(seq=0, prev=b""))
    if place is None:
        raise ValueError("a journaled entry cannot be read")
    return _opened(item.box, place.commitment)


def _opened(box: bytes, commitment: bytes) -> Mapping[str, object]:
    content = json.loads(open_box(box, commitment=commitment, sealer=evidence_sealer()).plaintext)
    return content if isinstance(content, dict) else {}


def _sightings(seq: int, sensitive: Mapping[str, object]) -> Iterator[Sighting]:
    key, tokens = tokens_in(sensitive)
    for name, found in tokens.items():
        for token in found:
            yield Sighting(token, seq, key, name[:63])


def check_subjects(size: int, *, after: int = 0) -> list[Finding]:
    """Compare the index with what the entries from `after` to `size` have sealed: the first difference of each kind.

    Sealed texts that are gone or altered are named by the check of texts; here they are left out.
    """
    findings: dict[str, Finding] = {}
    low = after
    while low < size:
        high = min(low + _PAGE * 10, size)
        for seq, kind, detail in _differences(low, high):
            findings.setdefault(kind, Finding(seq, kind, detail))
        low = high
    return sorted(findings.values(), key=lambda finding: finding.seq)


def _differences(low: int, high: int) -> Iterator[tuple[int, str, str]]:
    stored: dict[int, set[Sighting]] = {}
    for row in SubjectSighting.objects.filter(seq__gt=low, seq__lte=high).values_list("token", "seq", "key", "name"):
        sighting = Sighting(bytes(row[0]), *row[1:])
        stored.setdefault(sighting.seq, set()).add(sighting)
    if not stored and not LogEntry.objects.filter(seq__gt=low, seq__lte=high, kind__in=CARRIERS).exists():
        return
    for seq, sealed in _sealed_sightings(low, high):
        indexed = stored.pop(seq, set())
        if sealed is not None and not sealed <= indexed:
            yield seq, "subject-missing", "the index lacks a subject that this entry names"
        if sealed is not None and not indexed <= sealed:
            yield seq, "subject-inserted", "the index names a subject that this entry does not"
    if stored:
        yield min(stored), "subject-inserted", "the index names a subject of an entry that has none"


def _sealed_sightings(low: int, high: int) -> Iterable[tuple[int, set[Sighting] | None]]:
    """What each carrier says; None where its sealed text cannot be read or is gone."""
    entries = LogEntry.objects.filter(seq__gt=low, seq__lte=high, kind__in=CARRIERS).order_by("seq")
    boxes = dict(SealedText.objects.filter(seq__gt=low, seq__lte=high).values_list("seq", "box"))
    for seq, canonical in entries.values_list("seq", "canonical"):
        place = read_place(bytes(canonical))
        if place is None or not place.commitment:
            continue
        try:
            yield seq, set(_sightings(seq, _opened(bytes(boxes[seq]), place.commitment)))
        except (KeyError, SealProblem, ValueError):
            yield seq, None
