"""Reports as PDF: a head that says what, for whom and when, definitions, tables that break well, integrity.

The size of a document is bounded: a table shows its first rows and says how many the CSV has. The standard fonts hold
Western letters; any other character is written as its code point, so that nothing is silently another letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import LETTER, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    HRFlowable,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

INK, BLUE, GREY, RULE, BAND = (
    colors.HexColor(code) for code in ("#111827", "#1d4ed8", "#5b6472", "#d6dae1", "#f4f6fa")
)
GOOD, BAD = colors.HexColor("#047857"), colors.HexColor("#b91c1c")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?\+00:00")  # every time here is UTC
MAX_ROWS = 1_000
MAX_CELL = 400
_MARGIN = 0.75 * inch

BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=9.5, leading=13, textColor=INK)
SMALL = ParagraphStyle("small", parent=BODY, fontSize=8, leading=10.5, textColor=GREY)
TITLE = ParagraphStyle("title", parent=BODY, fontName="Helvetica-Bold", fontSize=21, leading=26)
HEADING = ParagraphStyle("heading", parent=BODY, fontName="Helvetica-Bold", fontSize=13, leading=17, spaceBefore=12)
EXTENT = ParagraphStyle("extent", parent=SMALL, spaceAfter=4)
LABEL = ParagraphStyle("label", parent=SMALL, fontName="Helvetica-Bold")
CELL = ParagraphStyle("cell", parent=BODY, fontSize=8, leading=10, splitLongWords=1)
NUMBER = ParagraphStyle("number", parent=CELL, alignment=TA_RIGHT)
HEAD = ParagraphStyle("head", parent=CELL, fontName="Helvetica-Bold", textColor=colors.white)
HEAD_NUMBER = ParagraphStyle("head number", parent=HEAD, alignment=TA_RIGHT)
MONO = ParagraphStyle("mono", parent=CELL, fontName="Courier", splitLongWords=1)


@dataclass(frozen=True, slots=True)
class Cover:
    """What stands on every page and in the head of the first."""

    title: str
    section: str
    since: datetime
    until: datetime
    made_by: str
    made_at: datetime
    origin: str
    limits: str = ""  # beside the period


@dataclass(frozen=True, slots=True)
class Integrity:
    """The log this was made from, as it was found when it was made."""

    size: int
    root: str
    signed_at: datetime | None
    vkey: str
    findings: int
    anchors: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        return self.findings == 0


@dataclass(frozen=True, slots=True)
class Listing:
    """A table: the first rows, and how many there are in all."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    total: int
    csv: str = ""
    counted: bool = True  # whether the table says how many rows it has


def write_pdf(path: Path, cover: Cover, story: Iterable[Flowable]) -> None:
    """Lay `story` out under the cover's head on landscape letter paper."""
    size = landscape(LETTER)
    document = BaseDocTemplate(
        str(path),
        pagesize=size,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN + 10,
        bottomMargin=_MARGIN,
        title=cover.title,
        author="hoopweb",
        subject=f"{cover.section}, {cover.since:%Y-%m-%d} to {cover.until:%Y-%m-%d}",
    )
    none = {"leftPadding": 0, "rightPadding": 0, "topPadding": 0, "bottomPadding": 0}
    frame = Frame(document.leftMargin, document.bottomMargin, document.width, document.height, id="page", **none)
    template = PageTemplate("page", [frame], onPage=lambda canvas, _: _furniture(canvas, cover, size))
    document.addPageTemplates([template])
    document.build(list(story), canvasmaker=_Numbered)


class _Numbered(Canvas):  # type: ignore[misc]  # reportlab has no types
    """Says "page 3 of 12": pages are kept until their number is known."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._kept.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, state in enumerate(self._kept, 1):
            self.__dict__.update(state)
            self.setFont("Helvetica", 8)
            self.setFillColor(GREY)
            self.drawRightString(self._pagesize[0] - _MARGIN, 0.45 * inch, f"page {number} of {len(self._kept)}")
            super().showPage()
        super().save()


def _furniture(canvas: Canvas, cover: Cover, size: tuple[float, float]) -> None:
    width, height = size
    canvas.saveState()
    canvas.setFillColor(BLUE)
    canvas.rect(0, height - 6, width, 6, stroke=0, fill=1)
    canvas.setFont("Helvetica-Bold", 8)
    canvas.drawString(_MARGIN, height - 0.5 * inch, "hoopweb")
    canvas.setFont("Helvetica", 8)
    canvas.setFillColor(GREY)
    canvas.drawString(_MARGIN + 42, height - 0.5 * inch, plain(cover.title))
    period = f"{cover.since:%Y-%m-%d} up to {cover.until:%Y-%m-%d} UTC"
    canvas.drawRightString(width - _MARGIN, height - 0.5 * inch, period)
    canvas.setStrokeColor(RULE)
    canvas.line(_MARGIN, 0.62 * inch, width - _MARGIN, 0.62 * inch)
    made = f"{cover.origin} - made {cover.made_at:%Y-%m-%d %H:%M} UTC for {plain(cover.made_by)} - confidential"
    canvas.drawString(_MARGIN, 0.45 * inch, made)
    canvas.restoreState()


def opening(cover: Cover, integrity: Integrity, definition: str) -> list[Flowable]:
    """The first page's head: title, facts, what the report counts, and what proves it."""
    facts = [
        ("45 CFR", cover.section),
        ("Period", f"{cover.since:%Y-%m-%d %H:%M} up to, not including, {cover.until:%Y-%m-%d %H:%M} UTC"),
        *([("Limited to", cover.limits)] if cover.limits else []),
        ("Made", f"{cover.made_at:%Y-%m-%d %H:%M:%S} UTC, asked for by {cover.made_by}"),
    ]
    return [
        text(cover.title, TITLE),
        Spacer(1, 6),
        _facts(facts),
        Spacer(1, 8),
        text(definition, BODY),
        Spacer(1, 8),
        integrity_box(cover, integrity),
        Spacer(1, 10),
    ]


def integrity_box(cover: Cover, integrity: Integrity) -> Flowable:
    """What the log was, whether it was intact, and how anybody checks that."""
    said = (
        "The stored log was checked as a whole before this was made, and found as it was written."
        if integrity.intact
        else f"THE STORED LOG IS DAMAGED: {integrity.findings} findings. Nothing was signed; see the bundle."
    )
    signed = f"{integrity.signed_at:%Y-%m-%d %H:%M:%S} UTC" if integrity.signed_at else "not signed"
    rows: list[tuple[str, str]] = [
        ("Log", f"{cover.origin}, {integrity.size} entries"),
        ("Root hash", integrity.root),
        ("Checkpoint", f"{signed}; verifies with {integrity.vkey}"),
    ]
    if integrity.anchors:
        rows.append(("Anchored", "; ".join(integrity.anchors)))
    tone = GOOD if integrity.intact else BAD
    style = ParagraphStyle("verdict", parent=BODY, fontName="Helvetica-Bold", textColor=tone)
    inner = Table(
        [[text("Integrity statement", LABEL)], [text(said, style)], [_facts(rows, mono=True)]], colWidths=[9.3 * inch]
    )
    inner.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), BAND),
                ("LINEBEFORE", (0, 0), (0, -1), 3, tone),
                ("LEFTPADDING", (0, 0), (-1, -1), 10),
                ("TOPPADDING", (0, 0), (-1, -1), 3),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )
    return KeepTogether([inner])


def listing(table: Listing) -> list[Flowable]:
    """The table with its head on every page, numbers to the right, and what was left out."""
    if not table.rows:
        return [text("Nothing of this kind was recorded in the period.", BODY)]
    numeric = [_numeric(table.rows, at) for at in range(len(table.columns))]
    head = [text(name, HEAD_NUMBER if numeric[at] else HEAD) for at, name in enumerate(table.columns)]
    body = [[text(_cell(value), NUMBER if numeric[at] else CELL) for at, value in enumerate(row)] for row in table.rows]
    drawn = Table([head, *body], colWidths=_widths(table), repeatRows=1, splitByRow=1)
    drawn.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, 0), BLUE),
                ("ROWBACKGROUNDS", (0, 1), (-1, -1), [colors.white, BAND]),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 3),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
                ("LEFTPADDING", (0, 0), (-1, -1), 5),
                ("RIGHTPADDING", (0, 0), (-1, -1), 5),
            ]
        )
    )
    # Above the table: below it, a page could end up with this line alone.
    return [*([text(_extent(table), EXTENT)] if table.counted else []), drawn]


def _extent(table: Listing) -> str:
    if len(table.rows) < table.total:
        return f"The first {len(table.rows)} of {table.total} rows; all of them are in {table.csv or 'the CSV'}."
    return "1 row." if table.total == 1 else f"{table.total} rows."


def signature_lines(words: str) -> Flowable:
    """A place to sign by hand, kept on one page."""
    line = Table([["", "", ""], [text(name, SMALL) for name in ("Name and title", "Signature", "Date")]],
                 colWidths=[3.4 * inch, 3.8 * inch, 2.1 * inch], rowHeights=[30, 14])  # fmt: skip
    line.setStyle(TableStyle([("LINEBELOW", (0, 0), (0, 0), 0.7, INK), ("LINEBELOW", (1, 0), (1, 0), 0.7, INK),
                              ("LINEBELOW", (2, 0), (2, 0), 0.7, INK)]))  # fmt: skip
    return KeepTogether([Spacer(1, 14), text(words, BODY), line])


def blank(label: str) -> Flowable:
    """A line to write something on that no file may hold."""
    line = Table([[text(label, BODY), ""]], colWidths=[3.2 * inch, 3.8 * inch], rowHeights=[20], hAlign="LEFT")
    line.setStyle(TableStyle([("LINEBELOW", (1, 0), (1, 0), 0.7, INK), ("LEFTPADDING", (0, 0), (0, 0), 0)]))
    return line


def heading(title: str) -> list[Flowable]:
    """A heading that does not end a page."""
    return [CondPageBreak(1.7 * inch), text(title, HEADING)]


def new_section() -> list[Flowable]:
    """A rule, or a new page where little room is left."""
    return [Spacer(1, 14), CondPageBreak(3 * inch), HRFlowable(width="100%", thickness=0.8, color=BLUE, spaceAfter=2)]


def text(content: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(escape(plain(content)), style)


def plain(content: str) -> str:
    """What the standard fonts can show; everything else as its code point (U+4E2D)."""
    shown = (c if c == "\n" or c.isprintable() else f"<U+{ord(c):04X}>" for c in content)
    return "".join(c if _western(c) else "".join(f"U+{ord(one):04X} " for one in c) for c in shown)


def _western(content: str) -> bool:
    try:
        content.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _facts(rows: Sequence[tuple[str, str]], *, mono: bool = False) -> Table:
    cells = [[text(name, LABEL), text(value, MONO if mono else CELL)] for name, value in rows]
    table = Table(cells, colWidths=[1.0 * inch, 8.2 * inch], hAlign="LEFT")
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0),
                               ("TOPPADDING", (0, 0), (-1, -1), 1),
                               ("BOTTOMPADDING", (0, 0), (-1, -1), 1)]))  # fmt: skip
    return table


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    said = _ISO.sub(r"\1 \2", worded(str(value)))
    return said if len(said) <= MAX_CELL else f"{said[:MAX_CELL]} ... ({len(said)} characters; all in the CSV)"


def worded(value: str) -> str:
    """What an entry holds as JSON, for people: `kind: report, since: 2026-11-01`. The CSV keeps the JSON."""
    if value[:1] not in ("{", "["):
        return value
    try:
        return _words(json.loads(value))
    except (ValueError, RecursionError):
        return value  # only looks like it


def _words(value: Any, *, inner: bool = False) -> str:
    if isinstance(value, dict):
        said = ", ".join(
            f"{name}: {_words(item, inner=True)}" for name, item in value.items() if item not in ("", None)
        )
        return f"({said})" if inner else said
    if isinstance(value, list):
        return "; ".join(_words(item) for item in value)
    return str(value)


def _numeric(rows: Sequence[Sequence[Any]], at: int) -> bool:
    values = [row[at] for row in rows if row[at] is not None]
    return bool(values) and all(isinstance(value, int | Decimal) and not isinstance(value, bool) for value in values)


def _widths(table: Listing) -> list[float]:
    """What a column holds where there is room, and the longest share the rest: a name is not broken for their sake.

    None is so narrow that its head breaks inside a word.
    """
    least = [max(stringWidth(word, "Helvetica-Bold", 8) for word in name.split()) + 12 for name in table.columns]
    wanted = [
        max(
            [
                least[at],
                *(min(stringWidth(plain(_cell(row[at])), "Helvetica", 8), 240) + 12 for row in table.rows[:200]),
            ]
        )
        for at in range(len(table.columns))
    ]
    room = landscape(LETTER)[0] - 2 * _MARGIN
    widths, left = [0.0] * len(wanted), room
    for taken, at in enumerate(sorted(range(len(wanted)), key=lambda at: wanted[at])):
        widths[at] = max(least[at], min(wanted[at], left / (len(wanted) - taken)))
        left -= widths[at]
    return [width * room / sum(widths) for width in widths]
