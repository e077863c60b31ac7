"""What BigQuery itself says about a statement before it runs, and the door through which it is asked.

The dry run (`jobs.insert` with `configuration.dryRun`) is the second reading of every statement: its statement type,
the tables it refers to, the schema of its result, the bytes it would process. `tables.get`, `tables.list`,
`routines.get` give what our own reading resolves names against. All values are plain and frozen; names are kept as
BigQuery spells them. `None` means that the service did not say, which is never taken for "nothing".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Spec_contra = TypeVar("Spec_contra", contravariant=True)

# The names the REST resources use for types that GoogleSQL calls otherwise (TableFieldSchema.type).
_STANDARD_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}


@dataclass(frozen=True, slots=True, order=True)
class TablePath:
    """A fully qualified table, view, wildcard or routine: what `TableReference` and `RoutineReference` hold."""

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


@dataclass(frozen=True, slots=True)
class FieldSchema:
    """One column or nested field (`TableFieldSchema`). `type` is GoogleSQL's name of it: INT64, STRUCT, …"""

    name: str
    type: str
    mode: str = "NULLABLE"  # NULLABLE | REQUIRED | REPEATED
    fields: tuple[FieldSchema, ...] = ()

    @property
    def repeated(self) -> bool:
        return self.mode == "REPEATED"


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table as `tables.get` describes it."""

    fields: tuple[FieldSchema, ...]
    kind: str = "TABLE"  # TABLE | VIEW | MATERIALIZED_VIEW | EXTERNAL | SNAPSHOT | …
    query: str = ""  # of a view or materialised view
    legacy_sql: bool = False  # the view is written in legacy SQL
    ingestion_partitioned: bool = False  # has _PARTITIONTIME and _PARTITIONDATE


@dataclass(frozen=True, slots=True)
class Routine:
    """A stored routine as `routines.get` describes it."""

    kind: str  # SCALAR_FUNCTION | TABLE_VALUED_FUNCTION | PROCEDURE | AGGREGATE_FUNCTION
    language: str = "SQL"
    body: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DryRunError:
    """Why the service would refuse the statement. `message` has already lost its values."""

    reason: str  # ErrorProto.reason: invalidQuery, notFound, accessDenied, …
    message: str
    status: int = 400
    position: int = 0  # 1-based character of the text, 0 unknown


@dataclass(frozen=True, slots=True)
class DryRun:
    """The service's own reading of one statement or script."""

    statement_type: str = ""  # JobStatistics2.statementType: SELECT, INSERT, CREATE_TABLE_AS_SELECT, SCRIPT, …
    referenced_tables: frozenset[TablePath] | None = None
    schema: tuple[FieldSchema, ...] | None = None
    bytes_processed: int | None = None
    error: DryRunError | None = None


class BigQueryReader(Protocol[Spec_contra]):
    """Questions to the service that read definitions, never rows. `spec` is the gateway's ConnectionSpec.

    Every method raises only what its implementation documents for an unreachable service; the analyst then goes on
    without a second reading, so the statement is incomplete.
    """

    async def dry_run(
        self, spec: Spec_contra, text: str, parameters: Sequence[Mapping[str, Any]], default_dataset: str
    ) -> DryRun:
        """Dry-run `text` in GoogleSQL. `parameters` are `QueryParameter` resources (their values may be absent);
        `default_dataset` is `project.dataset`, or empty."""

    async def table(self, spec: Spec_contra, project: str, dataset: str, table: str) -> TableSchema | None:
        """Return what `tables.get` says, None when there is no such table (or none that the credential sees)."""

    async def tables(self, spec: Spec_contra, project: str, dataset: str) -> tuple[str, ...] | None:
        """Return the names of every table of a dataset, None when there is no such dataset."""

    async def datasets(self, spec: Spec_contra, project: str) -> tuple[str, ...]:
        """Return the names of every dataset of a project."""

    async def routine(self, spec: Spec_contra, project: str, dataset: str, routine: str) -> Routine | None:
        """Return what `routines.get` says, None when there is none."""


def standard_type(name: str) -> str:
    """GoogleSQL's name of a type as the REST resources spell it."""
    upper = name.upper()
    return _STANDARD_NAMES.get(upper, upper)


def fields_of(resource: object) -> tuple[FieldSchema, ...]:
    """Read the `fields` of a `TableSchema` resource. Raises ValueError on anything that is not one."""
    if not isinstance(resource, Mapping):
        raise ValueError("a schema that is no object")
    items = resource.get("fields", [])
    if not isinstance(items, list):
        raise ValueError("a schema whose fields are no list")
    return tuple(_field_of(item) for item in items)


def _field_of(item: object) -> FieldSchema:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str) or not isinstance(item.get("type"), str):
        raise ValueError("a field without a name or a type")
    mode = item.get("mode")
    return FieldSchema(
        name=item["name"],
        type=standard_type(item["type"]),
        mode=mode.upper() if isinstance(mode, str) and mode else "NULLABLE",
        fields=fields_of(item) if "fields" in item else (),
    )
