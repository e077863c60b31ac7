"""Compare the two readings of a statement and say what may be relied on.

An analysis is complete when sqlglot's reading of the client's text and the database's stored tree name the same
relations and the same verbs, the tree accounts for every column the database recorded a dependency on, every function
is known, and no other problem was met. Anything else keeps what was found, distrusts every output, and says why.
"""

from __future__ import annotations

from dataclasses import replace

from analysis.assemble import assemble, explained, trusted
from analysis.compare import compare
from analysis.findings import Findings
from analysis.fingerprint import Shape
from analysis.judge import judge_functions, judge_place, judge_temporary, judge_writes
from analysis.lineage import Lineage, read_lineage
from analysis.nodes import TreeError
from analysis.parse import ClientReading
from analysis.risk import with_risk
from analysis.statement import Analysis, Facts, Operation, Output, Statement
from analysis.utility import Utility
from analysis.witness import Witness


def agree(
    *, statement: Statement, utility: Utility, client: ClientReading, witness: Witness | None, shape: Shape
) -> Analysis:
    """Return the analysis of `statement`. `witness` is None for what the second reading cannot take."""
    found = Findings(problems=set(utility.problems), operations=set(utility.operations))
    lineage = None
    if utility.probe is not None:
        if not client.understood:
            found.problems.add(client.problem)
        lineage = _second_reading(witness, found)
        if lineage is not None and witness is not None:
            compare(client, lineage, witness, found)
            judge_functions(lineage, witness, found)
            written = lineage.reading.relations if utility.writes_probed else lineage.reading.written
            judge_writes(written, lineage.query, witness.catalogue, found)
            if utility.temporary_only:
                judge_temporary(utility, lineage, witness.catalogue, found)
            if utility.defines is not None:
                judge_place(utility.defines, witness, found)
    analysis = assemble(
        statement=statement, utility=utility, lineage=lineage, witness=witness, found=found, shape=shape
    )
    return with_risk(analysis)


def incomplete(*, statement: Statement, kind: str, problem: str, shape: Shape) -> Analysis:
    """An analysis that says nothing but that it is none: ADMIN, and not complete."""
    analysis = Analysis(
        statement=statement,
        kind=kind,
        fingerprint=shape.fingerprint,
        complete=False,
        problems=(problem,),
        operations=frozenset({Operation.ADMIN}),
        outputs=(Output("", resolved=False),),
        facts=Facts(no_where=True),
    )
    return with_risk(analysis)


def taken_over(*, statement: Statement, utility: Utility, stored: Analysis, shape: Shape) -> Analysis:
    """EXECUTE, FETCH and MOVE do what the statement they name does: its analysis, with their own text and bound."""
    if utility.derived_output:
        stated = replace(
            stored,
            statement=statement,
            kind=utility.kind,
            fingerprint=shape.fingerprint,
            complete=stored.complete and not utility.problems,
            problems=(*stored.problems, *utility.problems),
            literal_independent=False,
            name=utility.name,
            inner=stored,
            parameters=(),
        )
        analysis = explained(stated, utility)
        return with_risk(analysis)
    bounds = [bound for bound in (stored.facts.row_bound, utility.row_bound) if bound is not None]
    moves = utility.kind == "MOVE"
    analysis = replace(
        stored,
        statement=statement,
        kind=utility.kind,
        fingerprint=shape.fingerprint,
        complete=stored.complete and not utility.problems,
        problems=(*stored.problems, *utility.problems),
        outputs=None if moves else trusted(stored.outputs, complete=stored.complete and not utility.problems),
        facts=replace(stored.facts, row_bound=0 if moves else min(bounds, default=None)),
        literal_independent=False,
        name=utility.name,
        inner=stored,
        parameters=(),
    )
    return with_risk(analysis)


def distrusted(analysis: Analysis, problem: str) -> Analysis:
    """The same analysis, no longer to be relied on."""
    outputs = None if analysis.outputs is None else tuple(replace(o, resolved=False) for o in analysis.outputs)
    doubted = replace(
        analysis,
        complete=False,
        problems=(*analysis.problems, problem),
        outputs=outputs,
        literal_independent=False,
    )
    return with_risk(doubted)


def _second_reading(witness: Witness | None, found: Findings) -> Lineage | None:
    if witness is None:
        found.problems.add("the database gave no second reading")
        return None
    try:
        return read_lineage(witness.tree, witness.catalogue)
    except TreeError:
        found.problems.add("the database's reading cannot be followed")
        return None
