from __future__ import annotations

from collections import Counter

import pytest

from masking.detectors.text import detect
from tests.masking.asq_phi import DEVELOPMENT_HALF, records

pytestmark = pytest.mark.skipif(
    not DEVELOPMENT_HALF.exists(), reason="the ASQ-PHI development half is not beside this checkout"
)
LEAST_RECALL = 0.97
MOST_OVER_REDACTION = 0.15


def covered(text: str, value: str) -> bool:
    """Whether every occurrence of the value lies wholly under spans (blanks aside)."""
    under = {index for span in detect(text) for index in range(span.start, span.end)}
    start = text.find(value)
    while start >= 0:
        if any(index not in under and not text[index].isspace() for index in range(start, start + len(value))):
            return False
        start = text.find(value, start + 1)
    return True


def test_recall_per_identifier_type() -> None:
    total: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for record in records():
        for kind, value in record.identifiers:
            total[kind] += 1
            found[kind] += covered(record.text, value)

    recall = {kind: found[kind] / total[kind] for kind in total}
    print({kind: round(value, 3) for kind, value in recall.items()})
    assert found.total() / total.total() >= LEAST_RECALL
    assert min(recall.values()) >= LEAST_RECALL


def test_over_redaction_of_queries_without_identifiers() -> None:
    negatives = [record.text for record in records() if not record.identifiers]

    touched = sum(bool(detect(text)) for text in negatives)

    print(f"{touched} of {len(negatives)} queries without identifiers were changed")
    assert touched / len(negatives) <= MOST_OVER_REDACTION
