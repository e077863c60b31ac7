"""Tables as BigQuery names them, what they hold as values, and how rules and policies call them.

A table's reference is `dataset.table` within the connection's own project and `project.dataset.table` elsewhere, so
that a rule written for the connection never matches a namesake in a foreign project by accident, nor misses it by glob.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sqlglot import exp

from analysis.bigquery.dryrun import FieldSchema, Routine, TablePath, TableSchema
from analysis.scope import Value, record, stored
from analysis.statement import ColumnRef, TableRef

INFORMATION_SCHEMA = "INFORMATION_SCHEMA"
MAX_SHARDS = 400
_INGESTION = ("_PARTITIONTIME", "_PARTITIONDATE")


class NameProblem(ValueError):
    """A path that cannot be resolved to one table."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What an incomplete path is completed with."""

    project: str
    dataset: str = ""  # of the default project below
    dataset_project: str = ""


@dataclass(frozen=True)
class Definitions:
    """Everything the reader knows of the warehouse for one statement."""

    home: str  # the connection's project
    projects: frozenset[str] = frozenset()  # others it may read
    tables: Mapping[TablePath, TableSchema] = field(default_factory=dict)
    shards: Mapping[TablePath, tuple[str, ...]] = field(default_factory=dict)  # of wildcards: the tables' names
    routines: Mapping[TablePath, Routine] = field(default_factory=dict)

    @cached_property
    def types(self) -> dict[ColumnRef, str]:
        """The type of every stored field."""
        return {
            ColumnRef(ref.schema, ref.table, name): kind
            for path, table in self.tables.items()
            for ref in self.table_refs(path)
            for name, kind in _types(table.fields, "")
        }

    @cached_property
    def field_names(self) -> frozenset[str]:
        """Every name a column or a nested field has anywhere, in lower case."""
        return frozenset(part.lower() for column in self.types for part in column.column.split("."))

    def table_ref(self, path: TablePath) -> TableRef:
        if is_information_schema(path):
            return TableRef("information_schema", path.table.split(".", 1)[1])
        dataset = path.dataset if path.project == self.home else f"{path.project}.{path.dataset}"
        return TableRef(dataset, path.table)

    def table_refs(self, path: TablePath) -> tuple[TableRef, ...]:
        """The table's own reference; of a wildcard also those of every table it stands for."""
        own = self.table_ref(path)
        return (own, *(TableRef(own.schema, name) for name in self.shards.get(path, ())))

    def columns(self, path: TablePath) -> list[tuple[str, Value]]:
        """The table's columns with what they hold. Raises KeyError for a table nobody described."""
        refs = self.table_refs(path)
        return [(item.name, _value(refs, item, "")) for item in self.tables[path].fields]

    def pseudo_columns(self, path: TablePath) -> dict[str, Value]:
        """What can be named but is not part of `*`."""
        refs = self.table_refs(path)
        found = {"_file_name": Value()} if self.tables[path].kind == "EXTERNAL" else {}
        if is_wildcard(path):
            found["_table_suffix"] = Value()
        if self.tables[path].ingestion_partitioned or is_wildcard(path):
            found |= {
                name.lower(): stored((ColumnRef(r.schema, r.table, name) for r in refs), joinable=True)
                for name in _INGESTION
            }
        return found


def _types(fields: Iterable[FieldSchema], prefix: str) -> Iterator[tuple[str, str]]:
    for item in fields:
        yield prefix + item.name, item.type
        yield from _types(item.fields, prefix + item.name + ".")


def _value(refs: Iterable[TableRef], item: FieldSchema, prefix: str) -> Value:
    """A field's value: an array stands for its elements, a record for its fields."""
    path = prefix + item.name
    if item.type == "STRUCT":
        names = [child.name.lower() for child in item.fields]
        parts = [_value(refs, child, path + ".") for child in item.fields]
        origins = frozenset(origin for part in parts for origin in part.origins)
        return Value(origins, stored=True, fields=tuple(parts), names=tuple(names))
    return stored((ColumnRef(ref.schema, ref.table, path) for ref in refs), joinable=True)


def row_of(columns: Iterable[tuple[str, Value]]) -> Value:
    """The whole row as one STRUCT."""
    items = list(columns)
    return record([name.lower() for name, _ in items], [value for _, value in items])


def is_wildcard(path: TablePath) -> bool:
    return path.table.endswith("*")


def is_information_schema(path: TablePath) -> bool:
    return path.table.upper().startswith(INFORMATION_SCHEMA + ".")


def resolve(table: exp.Table, defaults: Defaults) -> TablePath:
    """Return the full path a table expression names. Raises NameProblem for what is no plain path."""
    if not isinstance(table.this, exp.Identifier):
        raise NameProblem("a source of rows that is no table")
    parts: list[str] = []
    for name in ("catalog", "db", "this"):
        part = table.args.get(name)
        if part is None:
            continue
        if not isinstance(part, exp.Identifier):
            raise NameProblem("a table's path of a kind that is not known")
        parts.append(str(part.this))
    return path_of(".".join(parts), defaults)


def path_of(text: str, defaults: Defaults) -> TablePath:
    """Return the path of a dotted name. A project of a domain (`example.com:p`) keeps its dots."""
    parts = text.split(".")
    while len(parts) > 3 and ":" in ".".join(parts[:2]):
        parts[0:2] = [".".join(parts[0:2])]
    upper = [part.upper() for part in parts]
    if INFORMATION_SCHEMA in upper[:-1]:
        at = upper.index(INFORMATION_SCHEMA)
        view = ".".join([INFORMATION_SCHEMA, *upper[at + 1 :]])
        return _completed(parts[:at] or [""], view, defaults)
    if any(not part for part in parts) or any(mark in parts[-1] for mark in "$@"):
        raise NameProblem("a table's path with a decorator, or with an empty part")
    if "*" in parts[-1][:-1] or len(parts) > 3:
        raise NameProblem("a table's path of a kind that is not known")
    return _completed(parts[:-1], parts[-1], defaults)


def _completed(above: list[str], table: str, defaults: Defaults) -> TablePath:
    if len(above) == 2:
        return TablePath(above[0], above[1], table)
    if len(above) == 1:
        return TablePath(defaults.project, above[0], table)
    if not above and defaults.dataset:
        return TablePath(defaults.dataset_project or defaults.project, defaults.dataset, table)
    raise NameProblem("a table without a dataset, and no default dataset is set")
