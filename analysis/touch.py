"""What of a statement meets protected data: computed by masking, asked for by decisions, hence below both."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.making import quickly_made
from analysis.statement import ColumnRef


@quickly_made
@dataclass(frozen=True, slots=True)
class ProtectedTouch:
    """What of the statement meets protected data; computed by masking from the analysis and the rules."""

    columns_read: frozenset[ColumnRef] = frozenset()
    columns_written: frozenset[ColumnRef] = frozenset()
    columns_returned: frozenset[ColumnRef] = frozenset()  # appear in outputs, masked or clear
    columns_spread: frozenset[ColumnRef] = frozenset()  # protected, and put where no rule protects them as well
    classes: frozenset[str] = frozenset()  # data classes, e.g. {"ssn", "name"}
    inference_violations: tuple[str, ...] = ()  # "ssn: comparison with a constant (rule ssn, guarded)"

    @property
    def touches_phi(self) -> bool:
        return bool(self.columns_read or self.columns_written or self.classes)
