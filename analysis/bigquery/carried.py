"""Where a statement puts stored values: the columns of other tables that then show them as well.

A view is not such a place: whoever reads it reads through its query. Neither is what a script makes for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlglot import exp

from analysis.bigquery.dryrun import TablePath
from analysis.bigquery.reading import Reading
from analysis.scope import Value, disclosed, stored
from analysis.statement import Carried, ColumnRef, Output, TableRef, Transform

EVERYWHERE = "*"
OUTSIDE = TableRef("outside", "warehouse")  # files


def carry(reading: Reading, path: TablePath | None, names: Sequence[str], values: Sequence[Value]) -> None:
    """Note that `values` go into the columns `names` of a table. None is a table of the script's own."""
    if path is None:
        return
    fits = len(names) == len(values)
    for ref in reading.refs([path]):
        for place, value in enumerate(values):
            reading.carries.update(carried(value, ref, names[place] if fits else EVERYWHERE))


def carried(value: Value, table: TableRef, column: str) -> Iterator[Carried]:
    """One by one where the parts of a record are known."""
    if value.fields is not None and len(value.names) == len(value.fields) and column != EVERYWHERE:
        for name, part in zip(value.names, value.fields, strict=True):
            yield from carried(part, table, f"{column}.{name}")
        return
    for origin in disclosed(value):
        yield Carried(origin, ColumnRef(table.schema, table.table, column))


def carried_outputs(outputs: Iterable[Output], table: TableRef, above: str = "") -> Iterator[Carried]:
    """A result that is written to a table."""
    for output in outputs:
        name = f"{above}{output.name or EVERYWHERE}"
        if output.fields:
            yield from carried_outputs(output.fields, table, f"{name}.")
            continue
        for origin in output.origins:
            if origin.transform is not Transform.SAFE:
                yield Carried(origin.column, ColumnRef(table.schema, table.table, name))


def carry_renamed(reading: Reading, path: TablePath | None, actions: Iterable[exp.Expr]) -> None:
    """A column, or a table, under another name holds what it held."""
    if path is None:
        return
    for ref in reading.refs([path]):
        known = [column for column in reading.definitions.types if column.table_ref == ref]
        for action in actions:
            if isinstance(action, exp.RenameColumn):
                old, new = action.this.name.lower(), action.args["to"].name
                renamed = [column for column in known if f"{column.column}.".lower().startswith(f"{old}.")]
                for column in renamed:
                    into = ColumnRef(ref.schema, ref.table, new + column.column[len(old) :])
                    reading.carries.update(_whole(column, into))
            elif isinstance(action, exp.AlterRename):
                for column in known:
                    reading.carries.update(_whole(column, ColumnRef(ref.schema, action.this.name, column.column)))


def _whole(column: ColumnRef, into: ColumnRef) -> Iterator[Carried]:
    for origin in disclosed(stored([column], joinable=False)):
        yield Carried(origin, into)
