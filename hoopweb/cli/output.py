"""Answers on the screen. What comes from elsewhere is shown with its control characters spelled out, never obeyed."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

FORMATS = ("table", "json", "csv")


def write_rows(out: TextIO, *, names: Sequence[str], rows: Sequence[Sequence[Any]], layout: str) -> None:
    """`layout` table (for people) or csv (RFC 4180: NULL is an empty field)."""
    if layout == "csv":
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerows([["" if value is None else _text(value) for value in row] for row in rows])
        return
    cells = [[shown(value) for value in row] for row in rows]
    heads = [shown(name) for name in names]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for line in (heads, ["-" * width for width in widths], *cells):
        out.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def write_records(out: TextIO, records: Sequence[Mapping[str, Any]], *, fields: Sequence[str], layout: str) -> None:
    """Objects of a list, by some of their members; json keeps them whole."""
    if layout == "json":
        write_json(out, records)
        return
    rows = [[record.get(name) for name in fields] for record in records]
    write_rows(out, names=fields, rows=rows, layout=layout)


def write_json(out: TextIO, value: Any) -> None:
    out.write(json.dumps(value, indent=2) + "\n")


def write_members(out: TextIO, members: Mapping[str, Any]) -> None:
    """`name  value` a line; what is empty is left out."""
    kept = {name: value for name, value in members.items() if value not in (None, "", [], {})}
    width = max(map(len, kept), default=0)
    for name, value in kept.items():
        out.write(f"{name.ljust(width)}  {shown(value)}\n")


def shown(value: Any, *, lines: bool = False) -> str:
    """`value` for a terminal: no escape sequence, no character that hides or turns others; `lines` keeps breaks."""
    text = "NULL" if value is None else _text(value)
    return "".join(
        character if character.isprintable() or (lines and character == "\n") else _spelled(character)
        for character in text
    )


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)
