"""Compare the reading of a statement with BigQuery's dry run of it, and say what may be relied on.

Complete is what both describe alike: the service refers to no table the reading did not meet and to all it met, calls
the statement the same, and describes a result of the same names, in the same order, whose plainly stored columns have
the types of the columns they are said to come from. A fact the service did not give is a disagreement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from analysis.agree import distrusted
from analysis.bigquery.destinations import written_to
from analysis.bigquery.dryrun import DryRun, FieldSchema, TablePath
from analysis.bigquery.lexer import tokenize
from analysis.bigquery.names import Definitions, is_information_schema, is_wildcard
from analysis.bigquery.read import PartReading, TextReading, result_rows
from analysis.bigquery.reading import Rows
from analysis.fingerprint import exact_shape, shape_of
from analysis.lexer import LexError
from analysis.risk import with_risk
from analysis.scope import Value
from analysis.statement import Analysis, Facts, Operation, Output, Statement, TableRef

_DISAGREE = "BigQuery's dry run disagrees"
# What a statement needs that only the service understood; anything else is administration.
_UNREAD_OPERATIONS: dict[str, frozenset[Operation]] = {
    "SELECT": frozenset({Operation.READ}),
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE", "MERGE"), frozenset({Operation.READ, Operation.WRITE})),
}


def agree(*, statement: Statement, text: TextReading, runs: Mapping[str, DryRun], definitions: Definitions) -> Analysis:
    """Return the analysis of `statement`. `runs` holds the dry run of every part's probe that could be had."""
    reading = text.reading
    problems = set(reading.problems)
    for part in text.parts:
        problems |= _disagreements(part, runs.get(part.probe or ""), definitions)
    rows, certain = result_rows(text)
    if not certain:
        problems.add("which of its queries returns the result is decided at run time")
    analysis = _assemble(statement, text, rows, frozenset(problems), runs)
    if reading.dangerous:
        analysis = replace(analysis, operations=analysis.operations | {Operation.ADMIN})
    if analysis.kind == "UNKNOWN":
        analysis = _as_described(analysis, text, runs, definitions)
    if statement.destination:
        analysis = written_to(analysis, statement.destination, definitions)
    if not analysis.complete:
        analysis = replace(distrusted(analysis, ""), problems=analysis.problems)
    return with_risk(analysis)


# --- comparison ------------------------------------------------------------------------------------------------------


def _disagreements(part: PartReading, run: DryRun | None, definitions: Definitions) -> set[str]:
    if not part.needs_probe:
        return set()
    if run is None:
        return {"BigQuery gave no second reading of a part"}
    if run.error is not None:
        return {"BigQuery would refuse a part of it"}
    found: set[str] = set()
    # Functions in front of a query may make a script of it; its schema still is the query's.
    expected = part.act.expected | ({"SCRIPT"} if part.calls_local and part.act.rows is not None else frozenset())
    if part.act.expected and run.statement_type not in expected:
        found.add(f"{_DISAGREE} about what kind of statement it is")
    if not _same_tables(part, run, definitions):
        found.add(f"{_DISAGREE} about its tables")
    if part.act.rows is not None:
        if run.schema is None or not _same_columns(part.act.rows.columns, run.schema):
            found.add(f"{_DISAGREE} about its outputs")
        elif not _same_types(part.act.rows.values, run.schema, definitions):
            found.add(f"{_DISAGREE} about the types of its outputs")
    return found


def _same_tables(part: PartReading, run: DryRun, definitions: Definitions) -> bool:
    ours = {path for path in part.tables if not is_information_schema(path)}
    if run.referenced_tables is None:
        return not ours
    theirs = {path for path in run.referenced_tables if not _describes_schema(path)}
    met = part.beneath | part.written
    if not all(path in met or any(_covers(one, path) for one in met) for path in theirs):
        return False
    return all(_is_referred_to(path, theirs, part, definitions) for path in ours)


def _describes_schema(path: TablePath) -> bool:
    return is_information_schema(path) or path.dataset.upper() == "INFORMATION_SCHEMA"


def _covers(wildcard: TablePath, path: TablePath) -> bool:
    same = (wildcard.project, wildcard.dataset) == (path.project, path.dataset)
    return same and is_wildcard(wildcard) and path.table.startswith(wildcard.table[:-1])


def _is_referred_to(path: TablePath, theirs: set[TablePath], part: PartReading, definitions: Definitions) -> bool:
    if path in theirs or any(_covers(path, other) for other in theirs):
        return True
    schema = definitions.tables.get(path)
    return schema is not None and bool(schema.query) and bool(theirs & (part.beneath - {path}))


def _same_columns(columns: Iterable[tuple[str, Value]], schema: tuple[FieldSchema, ...]) -> bool:
    ours = list(columns)
    if len(ours) != len(schema):
        return False
    return all(_same_column(name, value, item) for (name, value), item in zip(ours, schema, strict=True))


def _same_column(name: str, value: Value, item: FieldSchema) -> bool:
    if name and name.lower() != item.name.lower():
        return False
    if value.fields is None:
        return True
    return item.type == "STRUCT" and _same_columns(zip(value.names, value.fields, strict=True), item.fields)


def _same_types(values: Iterable[Value], schema: tuple[FieldSchema, ...], definitions: Definitions) -> bool:
    for value, item in zip(values, schema, strict=True):
        if value.fields is not None:
            if not _same_types(value.fields, item.fields, definitions):
                return False
        elif value.stored and value.origins:
            known = {definitions.types.get(origin.column) for origin in value.origins} - {None}
            if known and item.type not in known and not _may_widen(known, item.type):
                return False
    return True


def _may_widen(known: set[str | None], type_name: str) -> bool:
    """UNION of INT64 and NUMERIC is NUMERIC ("Supertypes"): then no single column has the type of the result."""
    numbers = {"INT64", "NUMERIC", "BIGNUMERIC", "FLOAT64"}
    times = {"DATE", "DATETIME", "TIMESTAMP"}
    return any(known <= family and type_name in family and len(known) > 1 for family in (numbers, times))


# --- the result ------------------------------------------------------------------------------------------------------


def _assemble(
    statement: Statement, text: TextReading, rows: Rows | None, problems: frozenset[str], runs: Mapping[str, DryRun]
) -> Analysis:
    reading = text.reading
    shape = _shape(statement.text)
    return Analysis(
        statement=statement,
        kind=text.parts[0].act.kind if len(text.parts) == 1 else "SCRIPT",
        fingerprint=shape,
        complete=not problems,
        problems=tuple(sorted(problems)),
        operations=frozenset(operation for part in text.parts for operation in part.act.operations),
        tables_read=reading.refs(path for part in text.parts for path in part.beneath - part.written)
        | _read_back(text),
        tables_written=reading.refs(path for part in text.parts for path in part.written),
        reads=frozenset(reading.reads),
        writes=frozenset(reading.writes),
        outputs=None if rows is None else tuple(_output(name, value) for name, value in rows.columns),
        predicates=frozenset(reading.predicates),
        carries=frozenset(reading.carries),
        functions=frozenset(reading.functions | reading.dangerous),
        opaque_functions=frozenset(reading.opaque),
        facts=replace(_facts(text, rows, runs), uncounted=_is_uncounted(statement, text)),
    )


def _shape(text: str) -> str:
    try:
        return shape_of(tokenize(text)).fingerprint
    except LexError:
        return exact_shape(text).fingerprint


def _read_back(text: TextReading) -> frozenset[TableRef]:
    """Written tables count as read too where one of their columns is."""
    written = text.reading.refs(path for part in text.parts for path in part.written)
    return frozenset(table for table in written if any(c.table_ref == table for c in text.reading.reads))


def _output(name: str, value: Value) -> Output:
    fields = () if value.fields is None else tuple(map(_output, value.names, value.fields))
    return Output(name, tuple(sorted(value.origins)), fields=fields, mixed=value.mixed)


def _facts(text: TextReading, rows: Rows | None, runs: Mapping[str, DryRun]) -> Facts:
    acts = [part.act for part in text.parts]
    returning = [act.facts for act in acts if act.rows is not None and act.rows is rows]
    base = returning[-1] if returning else Facts(row_bound=0)
    if rows is None and any(act.kind == "UNKNOWN" for act in acts):
        base = Facts(no_where=True)
    return replace(
        base,
        no_where=any(act.facts.no_where for act in acts),
        export=any(act.facts.export for act in acts),
        row_bound=None if text.branches and rows is not None else base.row_bound,
        collects=text.reading.collects,
        estimated_bytes=_bytes(text, runs),
        statement_count=len(acts),
    )


def _is_uncounted(statement: Statement, text: TextReading) -> bool:
    """`numDmlAffectedRows` is of one INSERT, UPDATE, DELETE or MERGE; a script's job has none of its own."""
    if any(part.act.kind == "TRUNCATE" or part.act.facts.export for part in text.parts):
        return True
    alone = len(text.parts) == 1 and _first_word(statement.text) in _COUNTED
    return not alone and any(Operation.WRITE in part.act.operations for part in text.parts)


def _first_word(text: str) -> str:
    try:
        return next((token.word for token in tokenize(text)), "")
    except LexError:
        return ""


_COUNTED = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})


def _bytes(text: TextReading, runs: Mapping[str, DryRun]) -> int | None:
    """What the whole text would process; None as soon as one part is not known, or may run more than once."""
    asked = [runs.get(part.probe or "") for part in text.parts if part.needs_probe]
    known = [run.bytes_processed for run in asked if run is not None and run.bytes_processed is not None]
    return sum(known) if len(known) == len(asked) and not text.branches else None


def _as_described(
    analysis: Analysis, text: TextReading, runs: Mapping[str, DryRun], definitions: Definitions
) -> Analysis:
    """A statement only the service understood: named and typed as it says, never complete."""
    run = runs.get(text.parts[0].probe or "") if len(text.parts) == 1 else None
    operations = _UNREAD_OPERATIONS.get(run.statement_type if run is not None else "")
    if run is None or operations is None or Operation.ADMIN not in analysis.operations or text.reading.dangerous:
        return replace(analysis, outputs=(Output("", resolved=False),))
    refs = text.reading.refs(run.referenced_tables or ())
    return replace(
        analysis,
        kind=run.statement_type,
        operations=operations,
        tables_read=analysis.tables_read | refs,
        tables_written=analysis.tables_written | (refs if Operation.WRITE in operations else frozenset()),
        outputs=tuple(Output(item.name, resolved=False) for item in run.schema or ()),
    )
