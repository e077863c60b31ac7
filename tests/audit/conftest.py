"""The log's tests keep their anchors and keys to themselves."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

KEYS = {
    "HOOPWEB_LOG_SIGNING_KEY": base64.b64encode(b"s" * 32).decode(),
    "HOOPWEB_EVIDENCE_KEYS": base64.b64encode(b"e" * 32).decode(),
}


@pytest.fixture(autouse=True)
def own_evidence(settings, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings.HOOPWEB_HOME = tmp_path
    for name, value in KEYS.items():
        setattr(settings, name, value)
