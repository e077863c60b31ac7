"""Load, copy and extract jobs, read into the statement that means the same and the call that carries it out.

The statement is what is analysed, decided, shown to a reviewer and recorded; the service's own call is what runs, made
anew of the fields that are understood here. A field that is not named is refused: what nobody has read may change where
data goes.

Sources: `JobConfigurationLoad`, `JobConfigurationTableCopy`, `JobConfigurationExtract` of the API v2 reference;
LOAD DATA and EXPORT DATA of "Other statements in GoogleSQL".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.statement import Destination
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.parameters import canonical

JobJson = Mapping[str, Any]
# What can stand between backticks; decorators ($20260101, @-3600) mean other rows and are refused.
TABLE_NAME = re.compile(r"[\w -]{1,1024}")
DATASET_NAME = re.compile(r"\w{1,1024}")
_PROJECT = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_URI = re.compile(r"gs://[^\s'\"\\`]{1,2000}")
_WORD = re.compile(r"[A-Z_]{1,40}")
MAX_TABLES = 50
MAX_URIS = 500
MAX_FIELDS = 10_000

DISPOSITIONS = frozenset({"WRITE_TRUNCATE", "WRITE_TRUNCATE_DATA", "WRITE_APPEND", "WRITE_EMPTY"})
_CREATE = frozenset({"CREATE_IF_NEEDED", "CREATE_NEVER"})
_WRITTEN = frozenset({"destinationTable", "createDisposition", "writeDisposition"})
# What a query job may say of the table it writes its result to.
QUERY_WRITTEN = _WRITTEN | {"schemaUpdateOptions", "timePartitioning", "rangePartitioning", "clustering"}
_FIELDS: Mapping[str, frozenset[str]] = {
    "copy": _WRITTEN | {"sourceTable", "sourceTables", "operationType", "destinationExpirationTime"},
    "extract": frozenset(
        {
            "sourceTable",
            "destinationUri",
            "destinationUris",
            "destinationFormat",
            "fieldDelimiter",
            "printHeader",
            "compression",
            "useAvroLogicalTypes",
        }
    ),
    "load": QUERY_WRITTEN
    | {
        "schema",
        "sourceUris",
        "sourceFormat",
        "skipLeadingRows",
        "fieldDelimiter",
        "quote",
        "allowQuotedNewlines",
        "allowJaggedRows",
        "encoding",
        "nullMarker",
        "nullMarkers",
        "maxBadRecords",
        "ignoreUnknownValues",
        "autodetect",
        "useAvroLogicalTypes",
        "parquetOptions",
        "decimalTargetTypes",
        "preserveAsciiControlCharacters",
        "dateFormat",
        "datetimeFormat",
        "timeFormat",
        "timestampFormat",
        "timeZone",
    },
}
# Files nobody here reads: what a mask left of a value is not found in them.
_TEXT_FORMATS = frozenset({"CSV", "NEWLINE_DELIMITED_JSON"})
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Work:
    """One job that is no query. `configuration` is the service's, below its `kind`."""

    kind: str  # load | copy | extract
    configuration: Mapping[str, Any]
    text: str
    destination: Destination | None = None
    content: bytes | None = field(default=None, repr=False)  # of an upload
    found: str = ""  # what is in the content: "" nothing, "masked" values of ours, or "unreadable"

    @property
    def settings(self) -> str:
        """All that the text does not say; an approval is bound to it."""
        return canonical({self.kind: self.configuration}).decode()

    @property
    def is_readable(self) -> bool:
        """Whether what is uploaded can be looked through for values that came masked."""
        return self.configuration.get("sourceFormat", "CSV") in _TEXT_FORMATS and not (self.content or b"").startswith(
            _GZIP
        )


def read_work(configuration: JobJson, *, project: str, content: bytes | None = None) -> Work | None:
    """The load, copy or extract a job is; None for a query. Raises BigQueryError."""
    kinds = [kind for kind in _FIELDS if configuration.get(kind)]
    if not kinds:
        return None
    if len(kinds) > 1 or configuration.get("query"):
        raise BigQueryError("invalid", "the job's configuration is of more than one kind")
    kind, given = kinds[0], configuration[kinds[0]]
    if not isinstance(given, dict):
        raise BigQueryError("invalid", f"configuration.{kind} is malformed, expected an object")
    if configuration.get("dryRun"):
        raise BigQueryError("invalid", "only queries have a dry run")
    if content is not None and (kind != "load" or given.get("sourceUris")):
        raise BigQueryError("invalid", "an upload is a load job without source URIs")
    known = {name: value for name, value in given.items() if value not in (None, [], {}, "")}
    refuse_unknown_fields(known, _FIELDS[kind], f"configuration.{kind}")
    return _READERS[kind](known, project, content)


def refuse_unknown_fields(given: JobJson, known: frozenset[str], where: str) -> None:
    for name, value in given.items():
        if name not in known and value not in (None, False, "", [], {}):
            raise BigQueryError("accessDenied", f"{where} has a field that is not served: {name[:64]!r}")


def read_destination(
    given: JobJson, project: str, *, columns: tuple[str, ...] | None, outside: bool = False
) -> Destination:
    """Where a job's rows go, of its `destinationTable` and dispositions. Raises BigQueryError."""
    disposition = str(given.get("writeDisposition", "WRITE_EMPTY"))
    if disposition not in DISPOSITIONS or given.get("createDisposition", "CREATE_IF_NEEDED") not in _CREATE:
        raise BigQueryError("invalid", "the disposition is not one of BigQuery's")
    return Destination(
        table=table_of(given.get("destinationTable"), project),
        disposition=disposition,
        columns=columns,
        outside=outside,
        changes_schema=bool(given.get("schemaUpdateOptions")),
    )


def table_of(reference: Any, project: str) -> str:
    """`project.dataset.table` of a `TableReference`. Raises BigQueryError."""
    if not isinstance(reference, dict):
        raise BigQueryError("invalid", "a table's reference is malformed")
    owner = reference.get("projectId") or project
    dataset, table = reference.get("datasetId"), reference.get("tableId")
    parts = ((owner, _PROJECT), (dataset, DATASET_NAME), (table, TABLE_NAME))
    if not all(isinstance(part, str) and pattern.fullmatch(part) for part, pattern in parts):
        raise BigQueryError("invalid", "a table's reference is malformed; partition decorators are not served")
    return f"{owner}.{dataset}.{table}"


# --- one reader a kind -----------------------------------------------------------------------------------------------


def _copy(given: JobJson, project: str, _content: bytes | None) -> Work:
    listed = given.get("sourceTables") or [given.get("sourceTable")]
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_TABLES:
        raise BigQueryError("invalid", f"a copy has {MAX_TABLES} source tables at most")
    if given.get("operationType", "COPY") not in ("COPY", "CLONE", "SNAPSHOT", "OPERATION_TYPE_UNSPECIFIED"):
        raise BigQueryError("accessDenied", "this kind of copy is not served: use CREATE TABLE … CLONE in a query")
    selects = [f"SELECT * FROM `{table_of(reference, project)}`" for reference in listed]  # noqa: S608  analysed, not sent
    destination = read_destination(given, project, columns=None)
    return Work("copy", dict(given), "\nUNION ALL ".join(selects), destination)


def _extract(given: JobJson, project: str, _content: bytes | None) -> Work:
    uris = given.get("destinationUris") or [given.get("destinationUri")]
    options = [f"uri = {_quoted(uri)}" for uri in _uris(uris)]
    options.append(f"format = {_quoted(_word(given.get('destinationFormat', 'CSV')))}")
    table = table_of(given.get("sourceTable"), project)
    text = f"EXPORT DATA OPTIONS ({', '.join(options)}) AS SELECT * FROM `{table}`"  # noqa: S608  analysed, not sent
    return Work("extract", dict(given), text)


def _load(given: JobJson, project: str, content: bytes | None) -> Work:
    columns = _columns(given)
    outside = content is None
    destination = read_destination(given, project, columns=columns or ("*",), outside=outside)
    uris = (
        _uris(given.get("sourceUris")) if outside else [f"upload:sha256:{hashlib.sha256(content or b'').hexdigest()}"]
    )
    verb = "OVERWRITE" if destination.disposition.startswith("WRITE_TRUNCATE") else "INTO"
    named = f" ({', '.join(f'`{name}`' for name in columns)})" if columns else ""
    source = f"format = {_quoted(_word(given.get('sourceFormat', 'CSV')))}, uris = [{', '.join(map(_quoted, uris))}]"
    text = f"LOAD DATA {verb} `{destination.table}`{named} FROM FILES ({source})"
    return Work("load", dict(given), text, destination, content)


_READERS = {"copy": _copy, "extract": _extract, "load": _load}


def rows_as_statement(table: str, columns: Iterable[str]) -> str:
    """`tabledata.insertAll` as the INSERT it means; the rows are its parameters."""
    names = list(columns)
    listed = ", ".join(f"`{name}`" for name in names)
    return f"INSERT INTO `{table}` ({listed}) VALUES ({', '.join('?' for _ in names)})"  # noqa: S608  analysed, not sent


def _columns(given: JobJson) -> tuple[str, ...]:
    schema = given.get("schema") or {}
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if fields is None:
        return ()
    if not isinstance(fields, list) or len(fields) > MAX_FIELDS or not all(isinstance(f, dict) for f in fields):
        raise BigQueryError("invalid", "the schema is malformed")
    return column_names(fields_.get("name") for fields_ in fields)


def column_names(names: Iterable[Any]) -> tuple[str, ...]:
    """Names as they can be quoted. Raises BigQueryError."""
    found = tuple(names)
    if not all(isinstance(name, str) and re.fullmatch(r"[^`\\\x00-\x1f.]{1,300}", name) for name in found):
        raise BigQueryError("invalid", "a column's name is malformed")
    return found


def _uris(given: Any) -> Sequence[str]:
    if not isinstance(given, list) or not 0 < len(given) <= MAX_URIS or not all(isinstance(uri, str) for uri in given):
        raise BigQueryError("invalid", f"a job names 1 to {MAX_URIS} URIs")
    if not all(_URI.fullmatch(uri) for uri in given):
        raise BigQueryError(
            "accessDenied", "files are read from and written to Cloud Storage alone: gs://bucket/object"
        )
    return given


def _word(given: Any) -> str:
    if not isinstance(given, str) or not _WORD.fullmatch(given):
        raise BigQueryError("invalid", "the format is malformed")
    return given


def _quoted(text: str) -> str:
    return f"'{text}'"
