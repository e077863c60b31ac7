"""Small words of the review pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from approvals.domain.display import PLAIN, name_pieces
from approvals.domain.facts import size_words
from audit.domain.words import kind_words

register = template.Library()


@register.filter
def shown(name: object) -> SafeString:
    """A name somebody else chose, such as a result column's: nothing invisible in it stays so, nothing reorders it."""
    pieces = name_pieces(str(name))
    html = (
        conditional_escape(piece.text)
        if piece.kind == PLAIN
        else format_html('<span class="{}" title="{}">{}</span>', piece.kind, piece.note, piece.text)
        for piece in pieces
    )
    return mark_safe("".join(html))  # noqa: S308  every piece is escaped above


@register.filter
def sql_kind(kind: object) -> SafeString:
    """A kind of statement as SQL spells it, for headings: `COPY TO`."""
    return shown(kind_words(str(kind)))


@register.filter
def size(facts: dict[str, Any]) -> str:
    """How many rows: `changes about 1,204 rows`."""
    return size_words(facts)


@register.filter
def span(seconds: int) -> str:
    """A length of time in its two largest units: `2 h 5 min`."""
    minutes, secs = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    named = [(days, "d"), (hours, "h"), (minutes, "min"), (secs, "s")]
    while len(named) > 1 and named[0][0] == 0:
        named.pop(0)
    return " ".join(f"{number} {unit}" for number, unit in named[:2] if number) or "0 s"


@register.filter
def ago(moment: datetime) -> str:
    """How long ago, in the words people use."""
    seconds = (timezone.now() - moment).total_seconds()
    return "just now" if seconds < 60 else f"{span(int(seconds) // 60 * 60)} ago"


@register.filter
def level(points: int) -> str:
    """The class of a risk score: low, medium or high."""
    return "high" if points >= 60 else "medium" if points >= 30 else "low"
