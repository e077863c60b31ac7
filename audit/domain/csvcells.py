"""Values as cells of a CSV file that people open in a spreadsheet. Pure."""

from __future__ import annotations

import re
from typing import Any

# CWE-1236: a spreadsheet runs what begins like this, where East Asian input is usual also behind the full-width signs.
# Cells begin behind semicolons and tabs too, where it was told that these separate them, and then behind a line's end
# within the cell that is quoted here.
_FORMULA = re.compile(r"(?:(?<=[;\t\r\n])|\A)(?=[=+\-@\uff1d\uff0b\uff0d\uff20\t\r])")


def csv_cell(value: Any) -> str:
    """Text, with lists joined, and nothing a spreadsheet would run."""
    if value is None:
        return ""
    if isinstance(value, list):
        value = ", ".join(str(item.get("column", item)) if isinstance(item, dict) else str(item) for item in value)
    return str(value) if isinstance(value, int) else _FORMULA.sub("'", str(value))
