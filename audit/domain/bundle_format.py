"""What an evidence bundle is made of, as far as writer and verifier must agree. Pure (docs/evidence-bundle.md)."""

from __future__ import annotations

import base64

BUNDLE_TYPE = "hoopweb-bundle"
BUNDLE_VERSION = 1


def seal_text(*, origin: str, lines: int, digest: bytes) -> str:
    """What the exporter signs. Not a checkpoint: its first line is no origin of a log."""
    return f"{origin}/bundle\n{lines}\n{base64.b64encode(digest).decode()}\n"
