"""Small words of the review pages."""

from __future__ import annotations

from django import template

register = template.Library()


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
def level(points: int) -> str:
    """The class of a risk score: low, medium or high."""
    return "high" if points >= 60 else "medium" if points >= 30 else "low"
