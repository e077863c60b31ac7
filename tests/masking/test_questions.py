"""Clinical questions without identifiers: guidelines, trials, genes, scores and eponyms are nobody's name or town."""

from __future__ import annotations

from pathlib import Path

from masking.detectors.text import mask

QUESTIONS = Path(__file__).with_name("clinical_questions.txt").read_text(encoding="utf-8").splitlines()
MOST_CHANGED = 0.05


def test_questions_without_identifiers_are_left_alone() -> None:
    changed = {question: masked for question in QUESTIONS if (masked := mask(question)) != question}

    print(f"{len(changed)} of {len(QUESTIONS)} questions were changed", *changed.values(), sep="\n  ")
    assert len(QUESTIONS) >= 200
    assert len(changed) / len(QUESTIONS) <= MOST_CHANGED
