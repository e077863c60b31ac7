"""Columns whose name says free text: on a connection that holds PHI they have a rule even when nobody wrote one.

The value detectors read a note as it was stored. `reverse(note)`, its base64 form or every third character of it hold
the same SSN and no detector sees it, so what is *derived* from free text must be masked whole, and a condition on it
(`note LIKE '%541-8%'`) is a search for the SSN. Both follow from a rule; this is that rule.
"""

from __future__ import annotations

from collections.abc import Iterable

from masking.domain.rules import Inference, MaskingRule, Technique, exactly

NAME = "free-text"
_LAST = 2**31 - 1  # behind every rule a person wrote


def free_text_rule(connection: str) -> MaskingRule:
    """The rule of a connection nobody wrote: identity is scanned, anything derived is masked whole, search is held."""
    return MaskingRule(
        name=NAME,
        connections=(exactly(connection),),
        columns=(),
        technique=Technique.SCAN,
        inference=Inference.GUARDED,
        priority=_LAST,
        covers_free_text=True,
    )


def with_free_text(rules: tuple[MaskingRule, ...], connections: Iterable[str]) -> tuple[MaskingRule, ...]:
    """Return the rules with the implicit ones behind them, one for each connection that scans text."""
    return (*rules, *(free_text_rule(name) for name in connections))
