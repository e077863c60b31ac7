"""What the pipeline remembers of a session: statements that were plainly allowed, and all that hangs on that.

A memory is used only for the very analysis object the analyst still remembers (same catalogue version, template, types,
role and search path), under the same version of the rules, for the same principal (it belongs to one session), for a
minute at most, and never when a rule asks for the time of day. It spares analysing, matching and spelling again; the
record of every execution is written all the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from analysis.statement import Analysis, Statement
from audit.domain.canonical import CanonicalBody
from audit.domain.template import Template
from gateway.session.state import KnownState
from masking.domain.field import MaskingPlan, ResultColumn

if TYPE_CHECKING:
    from gateway.session.assessment import Assessment
    from gateway.session.recurring import Recurring, View

# Masks may depend on the year, principals expire: nothing is believed for longer than this.
MAX_AGE_S = 60.0
# A session that uses more shapes than this gains nothing from remembering them.
MAX_KNOWN = 256


@dataclass
class KnownStatement(KnownState):
    """One allowed statement. `remembered` is the analyst's own object; identity with it is what makes this valid."""

    remembered: Analysis
    assessment: Assessment
    body: CanonicalBody  # of its authorised entries
    until: float = field(default_factory=lambda: time.monotonic() + MAX_AGE_S)
    authorised: Template | None = None  # of its entries, once there is one
    completed: Template | None = None
    # Whether running it leaves the session as it is, or is `control` of its transaction; the wire finds out.
    quiet: bool | None = field(default_factory=lambda: None)
    control: bool = field(default_factory=lambda: False)
    views: dict[bytes, View] = field(default_factory=dict)  # by description, as the wire has it
    recurring: Recurring | None = None  # once it came again
    _described: bytes | None = field(default_factory=lambda: None)
    _view: View | None = field(default_factory=lambda: None)
    _columns: Sequence[ResultColumn] | None = None
    _plan: MaskingPlan | None = None

    @property
    def waits(self) -> bool:
        """Whether its entries take a while to become durable: a sync or a commit, shared with others."""
        return self.assessment.connection.durability != "os"

    def analysis_of(self, text: str, parameter_types: tuple[int, ...]) -> Analysis:
        """The analysis as one of `text`: what is remembered may be about another text of the same template.

        Whatever keeps it under a name must say which text that name stands for: records and approvals repeat it.
        """
        analysis = self.assessment.analysis
        statement = analysis.statement
        if statement.text == text and statement.parameter_types == parameter_types:
            return analysis
        return replace(analysis, statement=Statement(text, dialect=statement.dialect, parameter_types=parameter_types))

    def plan_for(self, columns: Sequence[ResultColumn]) -> MaskingPlan:
        """The masks of a result described as `columns`; built once as long as the description stays the same."""
        if self._plan is None or self._columns != columns:
            self._plan, self._columns = self.assessment.plan_for(columns), columns
        return self._plan


class KnownStatements:
    """Oldest out first; keyed by the identity of an object each entry keeps alive."""

    def __init__(self) -> None:
        self._by_identity: dict[int, KnownStatement] = {}
        self.ends: dict[str, Template] = {}  # of entries of executions that ended well, by kind of statement

    def find(self, remembered: Analysis, version: int) -> KnownStatement | None:
        known = self._by_identity.get(id(remembered))
        if known is None or known.remembered is not remembered or known.assessment.snapshot.version != version:
            return None
        return known if time.monotonic() < known.until else None

    def keep(self, known: KnownStatement) -> None:
        if len(self._by_identity) >= MAX_KNOWN:
            del self._by_identity[next(iter(self._by_identity))]
        self._by_identity.pop(id(known.remembered), None)
        self._by_identity[id(known.remembered)] = known
