"""Bodies of jobs.insert and jobs.query read into one frozen request, with every field either understood or refused.

Source: `Job`, `JobConfiguration`, `JobConfigurationQuery` and `QueryRequest` of the BigQuery API v2 reference. A field
that is not named here is refused: what nobody has read may change what a query does or where its result goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.statement import Destination
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.parameters import bound, canonical, declared
from gateway.protocols.bigquery.work import DATASET_NAME, QUERY_WRITTEN, Work, read_destination, read_work

MAX_TEXT_CHARS = 1_000_000  # "Maximum unresolved standard SQL query length", BigQuery quotas
MAX_PARAMETERS = 10_000  # "Maximum number of standard SQL query parameters"
MAX_LABELS = 64
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
_LEGACY = re.compile(r"^\s*#\s*legacysql\b", re.IGNORECASE | re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,1024}")
_LOCATION = re.compile(r"[A-Za-z0-9-]{1,64}")
_LABEL_KEY, _LABEL_VALUE = re.compile(r"[\w-]{1,63}"), re.compile(r"[\w-]{0,63}")  # "Requirements for labels"
OWN_LABELS = "hoopweb_"

DEFAULT_WAIT_S = 10.0  # QueryRequest.timeoutMs
MAX_WAIT_S = 60.0

# Understood in a query's configuration. jobs.insert has them below configuration.query, jobs.query at the top.
_SHARED = frozenset(
    {
        "query",
        "useLegacySql",
        "parameterMode",
        "queryParameters",
        "defaultDataset",
        "useQueryCache",
        "maximumBytesBilled",
    }
)
_REFERENCE = frozenset({"projectId", "jobId", "location"})
_CONFIGURATION = frozenset({"query", "dryRun", "labels", "jobTimeoutMs", "jobType"})
_CONFIGURATION_QUERY = _SHARED | {"priority", "destinationTable"}
_CONFIGURATION_WORK = frozenset({"load", "copy", "extract", "labels", "jobTimeoutMs", "jobType", "dryRun"})
_QUERY = _SHARED | {
    "kind",
    "maxResults",
    "timeoutMs",
    "jobTimeoutMs",
    "dryRun",
    "location",
    "formatOptions",
    "labels",
    "requestId",
    "preserveNulls",
    "jobCreationMode",
}
# Understood as "not asked for": refused with any other value.
_EMPTY_ONLY: Mapping[str, str] = {
    "tableDefinitions": "create an external table first, where a rule allows it",
    "createSession": "run the statements as one script",
    "connectionProperties": "leave out connection properties; sessions and time zones are not passed on",
    "userDefinedFunctionResources": "define functions in the query itself",
    "destinationEncryptionConfiguration": "use the options of CREATE TABLE",
    "scriptOptions": "leave out script options",
    "systemVariables": "set variables in the script itself",
    "continuous": "run an ordinary query",
    "writeIncrementalResults": "run an ordinary query",
    "reservation": "leave out the reservation; the connection has its own",
}
# Without a destination table these mean nothing, and clients send them out of habit; with one they are read there.
_MEANINGLESS = frozenset(
    QUERY_WRITTEN - {"destinationTable"} | {"allowLargeResults", "flattenResults", "maximumBillingTier", "maxSlots"}
)


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """One query as a client asked for it. `parameters` are `QueryParameter` resources as they came."""

    text: str
    parameters: tuple[Mapping[str, Any], ...] = ()
    parameter_mode: str = ""
    default_dataset: str = ""  # project.dataset
    dry_run: bool = False
    use_cache: bool = True
    maximum_bytes_billed: int | None = None
    priority: str = "INTERACTIVE"
    labels: tuple[tuple[str, str], ...] = ()
    job_timeout_ms: int | None = None
    location: str = ""
    job_id: str = ""  # the client's own; empty: ours
    request_id: str = ""
    max_results: int | None = None
    wait_s: float = DEFAULT_WAIT_S
    int64_timestamps: bool = False
    destination: Destination | None = None  # of the result
    written: Mapping[str, Any] = field(default_factory=dict)  # what the client said of the destination
    work: Work | None = None  # a job that is no query; `text` then says what it means

    @property
    def settings(self) -> str:
        """What an approval is bound to besides the text and its parameters."""
        if self.work is not None:
            return self.work.settings
        return canonical(self.written).decode() if self.destination is not None else ""

    @property
    def target(self) -> Destination | None:
        return self.destination if self.work is None else self.work.destination

    @property
    def bound(self) -> tuple[bytes, ...]:
        return bound(self.parameters)

    @property
    def declared(self) -> str:
        return declared(self.parameters)


def read_job(body: Mapping[str, Any], *, project: str, content: bytes | None = None) -> QueryRequest:
    """The body of jobs.insert, and what was uploaded with it. Raises BigQueryError."""
    configuration = _object(body, "configuration")
    reference = _object(body, "jobReference")
    work = read_work(configuration, project=project, content=content)
    _refuse_unknown(reference, _REFERENCE, "jobReference")
    # The path says whose rules and whose bill: a body that names somebody else's project is not guessed at.
    if (_text(reference, "projectId") or project) != project:
        raise BigQueryError("invalid", "jobReference names another project than the path")
    about: dict[str, Any] = {
        "labels": _labels(configuration),
        "job_timeout_ms": _integer(configuration, "jobTimeoutMs"),
        "location": _location(reference),
        "job_id": _job_id(reference),
    }
    if work is not None:
        _refuse_unknown(configuration, _CONFIGURATION_WORK, "configuration")
        return QueryRequest(text=work.text, work=work, **about)
    if content is not None:
        raise BigQueryError("invalid", "an upload is a load job")
    query = _object(configuration, "query")
    _refuse_unknown(configuration, _CONFIGURATION, "configuration")
    _refuse_unknown(query, _CONFIGURATION_QUERY, "configuration.query")
    written = {name: query[name] for name in sorted(QUERY_WRITTEN) if query.get(name)}
    into = written if written.get("destinationTable") else {}
    return _request(
        query,
        project=project,
        dry_run=_flag(configuration, "dryRun"),
        priority="BATCH" if query.get("priority") == "BATCH" else "INTERACTIVE",
        destination=read_destination(into, project, columns=None) if into else None,
        written=into,
        **about,
    )


def _job_id(reference: Mapping[str, Any]) -> str:
    job_id = _text(reference, "jobId")
    if job_id and not JOB_ID.fullmatch(job_id):
        raise BigQueryError("invalid", "the job id holds other characters than letters, digits, '-' and '_'")
    return job_id


def _location(given: Mapping[str, Any]) -> str:
    location = _text(given, "location")
    if location and not _LOCATION.fullmatch(location):
        raise BigQueryError("invalid", "the location is malformed")
    return location


def _flag(given: Mapping[str, Any], name: str) -> bool:
    """A field that changes whether something runs: what is neither true nor false is not taken for either."""
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise BigQueryError("invalid", f"{name} is malformed, expected true or false")
    return value is True


def read_query(body: Mapping[str, Any], *, project: str) -> QueryRequest:
    """The body of jobs.query. Raises BigQueryError."""
    _refuse_unknown(body, _QUERY, "the request")
    wait_ms = _integer(body, "timeoutMs")
    return _request(
        body,
        project=project,
        dry_run=_flag(body, "dryRun"),
        labels=_labels(body),
        job_timeout_ms=_integer(body, "jobTimeoutMs"),
        location=_location(body),
        request_id=_text(body, "requestId"),
        max_results=_integer(body, "maxResults"),
        wait_s=DEFAULT_WAIT_S if wait_ms is None else min(wait_ms / 1000, MAX_WAIT_S),
        int64_timestamps=wants_int64_timestamps(_object(body, "formatOptions")),
    )


def read_held(parameters: str, settings: str) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    """What an approval kept of a query besides its text: its parameters, and where it writes.

    Raises BigQueryError for what is no query: the text of a load or of streamed rows only says what they mean.
    """
    given = json.loads(parameters) if parameters else []
    written = json.loads(settings) if settings else {}
    if any("parameterType" not in each for each in given) or (written and "destinationTable" not in written):
        raise BigQueryError("invalid", "what is written comes with the call: approve it or deny it as it is")
    return given, written


def wants_int64_timestamps(options: Mapping[str, Any]) -> bool:
    """`DataFormatOptions`: refuses the forms nobody here masks."""
    if options.get("timestampOutputFormat") not in (
        None,
        "",
        "TIMESTAMP_OUTPUT_FORMAT_UNSPECIFIED",
        "FLOAT64",
        "INT64",
    ):
        raise BigQueryError("invalid", "the timestamp format is not served, expected FLOAT64 or INT64")
    return options.get("useInt64Timestamp") in (True, "true", "True") or options.get("timestampOutputFormat") == "INT64"


def _request(query: Mapping[str, Any], *, project: str, **rest: Any) -> QueryRequest:
    text = _text(query, "query")
    if not text or len(text) > MAX_TEXT_CHARS:
        raise BigQueryError("invalid", f"the query has {len(text)} characters, expected 1 to {MAX_TEXT_CHARS}")
    # Absent means legacy SQL to the service; the official clients always say.
    if query.get("useLegacySql") not in (False, "false") or _LEGACY.search(text):
        raise BigQueryError("invalid", "legacy SQL is not served: send useLegacySql false and GoogleSQL")
    cached = query.get("useQueryCache")
    return QueryRequest(
        text=text,
        parameters=_parameters(query),
        parameter_mode=_text(query, "parameterMode").upper(),
        default_dataset=_dataset(query, project),
        use_cache=cached is None or cached is True,
        maximum_bytes_billed=_integer(query, "maximumBytesBilled"),
        **rest,
    )


def _refuse_unknown(given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name, value in given.items():
        if name in known or name in _MEANINGLESS:
            continue
        if name in _EMPTY_ONLY:
            if value not in (None, False, "", [], {}):
                raise BigQueryError("accessDenied", f"{name} is not served: {_EMPTY_ONLY[name]}")
        elif value is not None:
            raise BigQueryError("invalid", f"{where} has a field that is not served: {name[:64]!r}")


def _parameters(query: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    given = query.get("queryParameters") or []
    if not isinstance(given, list) or not all(isinstance(p, dict) for p in given) or len(given) > MAX_PARAMETERS:
        raise BigQueryError("invalid", "the query parameters are malformed")
    for parameter in given:
        if not isinstance(parameter.get("parameterType"), dict) or set(parameter) - {
            "name",
            "parameterType",
            "parameterValue",
        }:
            raise BigQueryError(
                "invalid", "a query parameter is malformed, expected name, parameterType, parameterValue"
            )
    return tuple(given)


def _dataset(query: Mapping[str, Any], project: str) -> str:
    reference = _object(query, "defaultDataset")
    if not reference:
        return ""
    dataset, owner = _text(reference, "datasetId"), _text(reference, "projectId") or project
    if not DATASET_NAME.fullmatch(dataset) or not _NAME.fullmatch(owner):
        raise BigQueryError("invalid", "the default dataset is malformed")
    return f"{owner}.{dataset}"


def _labels(given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    labels = _object(given, "labels")
    if len(labels) > MAX_LABELS or not all(
        isinstance(value, str) and _LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)
        for key, value in labels.items()
    ):
        raise BigQueryError("invalid", f"the labels are malformed, expected at most {MAX_LABELS} of 63 characters")
    # Ours come back when a client sends a job's configuration again; they are not a client's to say.
    return tuple(sorted((key, value) for key, value in labels.items() if not key.startswith(OWN_LABELS)))


def _object(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = given.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BigQueryError("invalid", f"{name} is malformed, expected an object")
    return value


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BigQueryError("invalid", f"{name} is malformed, expected text")
    return value


def _integer(given: Mapping[str, Any], name: str) -> int | None:
    """Numbers come as JSON numbers or, being int64, as text. `Int64Value` wrappers are read as well."""
    value = given.get(name)
    if isinstance(value, dict):
        value = value.get("value")
    if value is None or value == "":
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise BigQueryError("invalid", f"{name} is malformed, expected a number") from None
    if isinstance(value, bool) or not 0 <= number < 2**63:
        raise BigQueryError("invalid", f"{name} is out of range")
    return number
