"""Small words of the evidence pages."""

from __future__ import annotations

from collections.abc import Iterable

from django import template

from audit.domain.marks import visible, visible_text
from audit.domain.words import DECISIONS, kind_words

register = template.Library()


@register.filter
def decided(decision: str) -> str:
    """A decision in words; a code that stands in its place, such as `access-denied`, as it is."""
    return DECISIONS.get(decision, decision)


@register.filter
def sql_kind(kind: object) -> str:
    """A kind of statement as SQL spells it: `COPY TO`."""
    return kind_words(str(kind))


@register.filter
def shown(name: object) -> str:
    """A name a client chose, such as its application's: nothing in it hides, reorders or breaks the line."""
    return visible(str(name))


@register.filter
def listed(names: Iterable[object]) -> str:
    """Such names in a row, with commas."""
    return ", ".join(visible(str(name)) for name in names)


@register.filter
def shown_text(text: object) -> str:
    """The same of a text of several lines."""
    return visible_text(str(text))
