"""Values as cells of a CSV file that people open in a spreadsheet. Pure."""

from __future__ import annotations

from typing import Any


def csv_cell(value: Any) -> str:
    """Text, with lists joined, and nothing a spreadsheet would run."""
    if value is None:
        return ""
    if isinstance(value, list):
        value = ", ".join(str(item.get("column", item)) if isinstance(item, dict) else str(item) for item in value)
    text = str(value)
    # CWE-1236: a spreadsheet runs what begins like this.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not isinstance(value, int) else text
