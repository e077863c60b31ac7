"""Small words of the evidence pages."""

from __future__ import annotations

from django import template

from audit.domain.words import DECISIONS

register = template.Library()


@register.filter
def decided(decision: str) -> str:
    """A decision in words; a code that stands in its place, such as `access-denied`, as it is."""
    return DECISIONS.get(decision, decision)
