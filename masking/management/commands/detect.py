"""`manage.py detect`: the free-text detector of the data path over JSON lines on stdin."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand

from masking.detectors.text import apply, detect

_SCORE_DIGITS = 3


class Command(BaseCommand):
    help = 'Read JSON lines {"text": …}; write {"spans": [{"start", "end", "class", "score"}], "masked": …} a line.'
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        for line in sys.stdin:
            if line.strip():
                self.stdout.write(json.dumps(answer(line)))
                self.stdout.flush()


def answer(line: str) -> dict[str, Any]:
    """The object for one line of input; malformed input is answered, never quoted back."""
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        return {"error": 'malformed line, expected a JSON object with a string "text"'}
    spans = detect(text)
    return {
        "spans": [
            {"start": span.start, "end": span.end, "class": span.cls, "score": round(span.score, _SCORE_DIGITS)}
            for span in spans
        ],
        "masked": apply(text, spans),
    }
