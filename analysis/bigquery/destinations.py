"""What a job writes besides what its text says: a query with a destination table, a copy, a load, streamed rows.

Sources: `JobConfigurationQuery`, `JobConfigurationTableCopy`, `JobConfigurationLoad` of the BigQuery API v2 reference.
A table that is made, or made anew, needs the right to define; so does one nobody could describe.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from analysis.agree import distrusted
from analysis.bigquery.carried import carried_outputs
from analysis.bigquery.dryrun import TablePath, TableSchema
from analysis.bigquery.names import Defaults, Definitions, NameProblem, is_information_schema, is_wildcard, path_of
from analysis.fingerprint import exact_shape
from analysis.risk import with_risk
from analysis.statement import Analysis, ColumnRef, Destination, Facts, Operation, Statement, TableRef

# Dispositions that leave an existing table's definition as it is; WRITE_TRUNCATE puts a new one in its place.
_KEEPING = frozenset({"WRITE_APPEND", "WRITE_EMPTY", "WRITE_TRUNCATE_DATA"})


def destination_path(destination: Destination, home: str) -> TablePath:
    """Raises NameProblem for what is no one table."""
    path = path_of(destination.table, Defaults(home))
    if is_wildcard(path) or is_information_schema(path):
        raise NameProblem("a destination that is no table")
    return path


def written_to(analysis: Analysis, destination: Destination, definitions: Definitions) -> Analysis:
    """A query whose result is written: what CREATE TABLE AS does, unmasked, without saying so in its text."""
    columns = [output.name or "*" for output in analysis.outputs or ()]
    written = _written(analysis, destination, definitions, columns)
    carries = {
        found
        for table in written.tables_written - analysis.tables_written or written.tables_written
        for found in carried_outputs(analysis.outputs or (), table)
    }
    written = replace(written, carries=written.carries | carries)
    return replace(written, facts=replace(written.facts, export=True, uncounted=True))


def load_analysis(statement: Statement, definitions: Definitions) -> Analysis:
    """Rows that come with the call, or from files: a write without anything read. Exact, so there is no dry run."""
    assert statement.destination is not None
    destination = statement.destination
    analysis = Analysis(
        statement=statement,
        kind="LOAD_DATA",
        fingerprint=exact_shape(statement.text).fingerprint,
        complete=True,
        outputs=None,
        facts=Facts(row_bound=0, estimated_bytes=0),
    )
    analysis = _written(analysis, destination, definitions, destination.columns or ("*",))
    if destination.outside:
        analysis = replace(analysis, operations=analysis.operations | {Operation.ADMIN})
    return with_risk(analysis)


def _written(
    analysis: Analysis, destination: Destination, definitions: Definitions, columns: Iterable[str]
) -> Analysis:
    try:
        path = destination_path(destination, definitions.home)
    except NameProblem:
        return distrusted(_needing(analysis, Operation.ADMIN), "a destination that could not be resolved")
    target = definitions.table_ref(path)
    known = {column for column in definitions.types if column.table_ref == target}
    analysis = replace(
        analysis,
        operations=analysis.operations | _operations(destination, definitions.tables.get(path), columns),
        tables_written=analysis.tables_written | {target},
        writes=analysis.writes | {found for name in columns for found in _columns(target, name, known)},
    )
    if path.dataset.startswith("_"):
        return distrusted(_needing(analysis, Operation.ADMIN), "writes to a hidden dataset")
    if path.project != definitions.home and path.project not in definitions.projects:
        return distrusted(analysis, "writes to a table of another project, which the connection does not name")
    return analysis


def _operations(destination: Destination, table: TableSchema | None, columns: Iterable[str]) -> frozenset[Operation]:
    keeps = destination.disposition in _KEEPING and not destination.changes_schema
    names = {field.name.lower() for field in table.fields} if table is not None else set()
    fits = destination.columns is None or {name.lower() for name in columns} <= names | {"*"}
    if table is not None and table.kind == "TABLE" and keeps and fits:
        return frozenset({Operation.WRITE})
    return frozenset({Operation.WRITE, Operation.DDL})


def _columns(target: TableRef, name: str, known: set[ColumnRef]) -> set[ColumnRef]:
    """The stored columns and nested fields a name covers; the name itself where nobody described it."""
    if name == "*" and known:
        return known
    inside = {column for column in known if f"{column.column}.".lower().startswith(f"{name}.".lower())}
    return inside or {ColumnRef(target.schema, target.table, name)}


def _needing(analysis: Analysis, operation: Operation) -> Analysis:
    return replace(analysis, operations=analysis.operations | {operation})
