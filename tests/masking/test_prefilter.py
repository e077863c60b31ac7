"""The prefilter may only skip work, never findings: with every family forced on, nothing more is found."""

from __future__ import annotations

import pytest

from masking.detectors import text as text_module
from masking.detectors.prefilter import Family, families
from masking.detectors.text import detect
from tests.masking.asq_phi import DEVELOPMENT_HALF, records
from tests.masking.test_detectors import CLEAN, FOUND


def detect_with_everything(text: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    with monkeypatch.context() as patched:
        patched.setattr(text_module, "families", lambda _text: frozenset(Family))
        return [(span.start, span.end) for span in detect(text)]


@pytest.mark.parametrize("text", [*(row[0] for row in FOUND), *CLEAN])
def test_prefilter_loses_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(span.start, span.end) for span in detect(text)] == detect_with_everything(text, monkeypatch)


@pytest.mark.skipif(not DEVELOPMENT_HALF.exists(), reason="the ASQ-PHI development half is not beside this checkout")
def test_prefilter_loses_nothing_over_clinical_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    for record in records():
        found = [(span.start, span.end) for span in detect(record.text)]
        assert found == detect_with_everything(record.text, monkeypatch)


def test_clean_prose_triggers_nothing() -> None:
    assert families("the lungs are clear and the abdomen is soft without tenderness; no new complaints.") == frozenset()
