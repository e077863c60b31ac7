"""What accumulates while the readings of a statement are compared and judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from analysis.making import quickly_made
from analysis.statement import Operation


@quickly_made
@dataclass(slots=True)
class Findings:
    """A statement with `problems` is not complete; the rest holds for it either way."""

    problems: set[str] = field(default_factory=set)
    operations: set[Operation] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
