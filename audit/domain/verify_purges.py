"""Certificates of purges in a bundle: what may be missing. Pure.

They come ahead of the entries, and are believed only as entries of the log (proved, or met again at their place) that
carry a note of the log's key. One without a note excuses nothing unless a signed one confirms it or the auditor
accepts it; until then it is a finding, for whoever can write to the database can append one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from audit.domain.certificates import Certificate, UnsignedCertificate, read_certificate, read_unsigned
from audit.domain.findings import read_place
from audit.domain.merkle import leaf_hash, verify_inclusion
from audit.domain.note import NoteProblem
from audit.domain.verify_walk import Walk

_FORGED = "certificate-forged"


def read_declared_certificate(walk: Walk, record: Mapping[str, Any]) -> None:
    """One as the bundle's head states it."""
    canonical, seq = record["entry"].encode(), int(record["seq"])
    place, leaf = read_place(canonical), leaf_hash(canonical)
    if place is None or place.seq != seq:
        walk.bad(seq, _FORGED, "not a certificate of a purge at its place in the log")
        return
    if walk.whole:
        walk.claimed[seq] = leaf
    elif not _proved(walk, record, seq, leaf):
        walk.bad(seq, _FORGED, "the certificate of a purge is not in the signed log")
        return
    certificate = judge_certificate(walk, canonical, seq)
    if certificate is not None:
        walk.certificates.append(certificate)


def _proved(walk: Walk, record: Mapping[str, Any], seq: int, leaf: bytes) -> bool:
    size = int(walk.header["size"])
    signed = walk.checkpoints.get(size)
    path = [bytes.fromhex(node) for node in record.get("proof") or ()]
    return signed is not None and verify_inclusion(leaf=leaf, index=seq - 1, size=size, proof=path, root=signed.root)


def judge_certificate(walk: Walk, canonical: bytes, seq: int) -> Certificate | None:
    """The certificate an entry is, if it may be believed. What is wrong with it is said once."""
    leaf = leaf_hash(canonical)
    if leaf in walk.judged:
        return walk.judged[leaf]
    certificate = None
    try:
        certificate = _believed(walk, canonical)
    except NoteProblem as problem:
        walk.bad(seq, _FORGED, str(problem))
    walk.judged[leaf] = certificate
    return certificate


def _believed(walk: Walk, canonical: bytes) -> Certificate | None:
    try:
        return read_certificate(canonical, keys=walk.keys)
    except UnsignedCertificate:
        unsigned = read_unsigned(canonical)
        if (unsigned.seq, unsigned.leaf) in walk.trusted.certificates:
            return unsigned
        walk.unsigned[unsigned.acceptance] = unsigned
        return None


def conclude_purges(walk: Walk) -> None:
    """What was claimed and not met, and what was neither signed nor confirmed."""
    for seq in walk.claimed if not walk.displaced else ():
        walk.bad(seq, _FORGED, "the certificate of a purge is not the entry at its place")
    confirmed = {certificate.confirms for certificate in walk.certificates}
    for named, certificate in walk.unsigned.items():
        if named not in confirmed:
            detail = "the certificate of a purge carries no note of the log's key, and excuses nothing; it says: "
            detail += f"{purge_told(certificate)}. If you know of this purge: --accept-certificate {named}"
            walk.bad(certificate.seq, "certificate-unsigned", detail)
    believed = {(certificate.seq, certificate.leaf) for certificate in walk.certificates}
    for seq, _ in sorted(walk.trusted.certificates - believed):
        walk.bad(seq, "certificate-missing", "a certificate of a purge you accepted is not in this log")


def purge_told(certificate: Certificate) -> str:
    """What a certificate says, for a person; what comes from the bundle stands in quotation marks."""
    said = (
        f"entry {certificate.seq}: {certificate.count} of class {json.dumps(certificate.record_class)} from before "
        f"{certificate.until:%Y-%m-%d}, up to entry {certificate.up_to}, by {json.dumps(certificate.by)}"
    )
    held = f"; {certificate.held} were held back" if certificate.held else ""
    return said + held
