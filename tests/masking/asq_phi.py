"""The development half of ASQ-PHI (Data in Brief 65 (2026) 112586), read where it lies; never copied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEVELOPMENT_HALF = Path(__file__).resolve().parents[3] / "shared" / "data" / "asq-phi" / "dev.txt"


@dataclass(frozen=True, slots=True)
class Record:
    text: str
    identifiers: tuple[tuple[str, str], ...]  # (type, value)


def records() -> Iterator[Record]:
    for block in DEVELOPMENT_HALF.read_text(encoding="utf-8").split("===QUERY===")[1:]:
        text, _marker, tags = block.partition("===PHI_TAGS===")
        found = [json.loads(line) for line in tags.splitlines() if line.strip()]
        yield Record(text.strip(), tuple((tag["identifier_type"], tag["value"]) for tag in found))
