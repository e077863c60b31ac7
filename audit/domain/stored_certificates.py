"""The certificates of purges the log holds: which of them account for what is gone."""

from __future__ import annotations

from functools import lru_cache

from audit.domain.certificates import KIND, Certificate, UnsignedCertificate, read_certificate
from audit.domain.findings import Finding
from audit.domain.keyring import KeyRing
from audit.domain.merkle import leaf_hash
from audit.domain.note import NoteProblem
from audit.models import LogEntry

FORGED, UNSIGNED = "certificate-forged", "certificate-unsigned"


def stored_certificates(keys: KeyRing) -> tuple[list[Certificate], list[Finding]]:
    """Those with a note of the log's key, oldest first, and what is wrong with the others: they excuse nothing."""
    good: list[Certificate] = []
    findings: list[Finding] = []
    unsigned: dict[str, int] = {}
    rows = LogEntry.objects.filter(kind=KIND).order_by("seq").values_list("seq", "canonical")
    for seq, canonical in rows.iterator():
        try:
            good.append(_signed(bytes(canonical), keys))
        except UnsignedCertificate:
            unsigned[f"{seq}:{leaf_hash(bytes(canonical)).hex()}"] = seq
        except NoteProblem as error:
            findings.append(Finding(seq, FORGED, str(error)))
    for named in unsigned.keys() - {certificate.confirms for certificate in good}:
        detail = f"no note of the log's key; if you know of this purge: audit_purge --confirm {named}"
        findings.append(Finding(unsigned[named], UNSIGNED, detail))
    return good, sorted(findings, key=lambda finding: finding.seq)


@lru_cache(maxsize=16_384)
def _signed(canonical: bytes, keys: KeyRing) -> Certificate:
    """Years of nightly purges are thousands of signatures, and every check asks for all of them."""
    return read_certificate(canonical, keys=keys)
