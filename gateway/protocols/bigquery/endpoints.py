"""The endpoints of the BigQuery v2 REST API, each governed or refused by a row of this table.

Source: "REST Resource" pages of the BigQuery API v2 reference. A request that matches no row is refused too: new
endpoints of the service exist here when somebody has said what they do. Refusals say what to do instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PREFIX = "/bigquery/v2"
# Where data is sent along with a load job ("Upload data").
UPLOAD_PREFIXES = ("/upload/bigquery/v2", "/resumable/upload/bigquery/v2")

_USE_DDL = "use a DDL statement in a query, such as CREATE TABLE … AS SELECT"
_RIGHTS = "rights on tables are the administrator's; ask for a rule of the gateway instead"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`refusal` says what to do instead; empty for an endpoint that is governed."""

    name: str
    method: str
    path: str
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    endpoint: Endpoint
    parameters: Mapping[str, str]


_P = "/projects/{project}"
_D = f"{_P}/datasets/{{dataset}}"
_T = f"{_D}/tables/{{table}}"

ENDPOINTS: tuple[Endpoint, ...] = (
    # Governed: every query is one statement of the pipeline; metadata is what the principal may see.
    Endpoint("jobs.query", "POST", f"{_P}/queries"),
    Endpoint("jobs.getQueryResults", "GET", f"{_P}/queries/{{job}}"),
    Endpoint("jobs.insert", "POST", f"{_P}/jobs"),
    Endpoint("jobs.list", "GET", f"{_P}/jobs"),
    Endpoint("jobs.get", "GET", f"{_P}/jobs/{{job}}"),
    Endpoint("jobs.cancel", "POST", f"{_P}/jobs/{{job}}/cancel"),
    Endpoint("projects.list", "GET", "/projects"),
    Endpoint("datasets.list", "GET", f"{_P}/datasets"),
    Endpoint("datasets.get", "GET", _D),
    Endpoint("tables.list", "GET", f"{_D}/tables"),
    Endpoint("tables.get", "GET", _T),
    Endpoint("tables.delete", "DELETE", _T),
    Endpoint("tabledata.list", "GET", f"{_T}/data"),
    Endpoint("tabledata.insertAll", "POST", f"{_T}/insertAll"),
    # Refused.
    Endpoint("jobs.delete", "DELETE", f"{_P}/jobs/{{job}}/delete", "jobs are evidence and are forgotten by themselves"),
    Endpoint("projects.getServiceAccount", "GET", f"{_P}/serviceAccount", "the gateway's own account is not shown"),
    Endpoint("datasets.insert", "POST", f"{_P}/datasets", _USE_DDL),
    Endpoint("datasets.update", "PUT", _D, _USE_DDL),
    Endpoint("datasets.patch", "PATCH", _D, _USE_DDL),
    Endpoint("datasets.delete", "DELETE", _D, _USE_DDL),
    Endpoint("datasets.undelete", "POST", f"{_D}:undelete", _USE_DDL),
    Endpoint("tables.insert", "POST", f"{_D}/tables", _USE_DDL),
    Endpoint("tables.update", "PUT", _T, _USE_DDL),
    Endpoint("tables.patch", "PATCH", _T, _USE_DDL),
    Endpoint("tables.getIamPolicy", "POST", f"{_T}:getIamPolicy", _RIGHTS),
    Endpoint("tables.setIamPolicy", "POST", f"{_T}:setIamPolicy", _RIGHTS),
    Endpoint("tables.testIamPermissions", "POST", f"{_T}:testIamPermissions", _RIGHTS),
    Endpoint("rowAccessPolicies.list", "GET", f"{_T}/rowAccessPolicies", _RIGHTS),
    Endpoint("rowAccessPolicies.insert", "POST", f"{_T}/rowAccessPolicies", _RIGHTS),
    Endpoint("rowAccessPolicies.batchDelete", "POST", f"{_T}/rowAccessPolicies:batchDelete", _RIGHTS),
    Endpoint("rowAccessPolicies.get", "GET", f"{_T}/rowAccessPolicies/{{policy}}", _RIGHTS),
    Endpoint("rowAccessPolicies.update", "PUT", f"{_T}/rowAccessPolicies/{{policy}}", _RIGHTS),
    Endpoint("rowAccessPolicies.delete", "DELETE", f"{_T}/rowAccessPolicies/{{policy}}", _RIGHTS),
    Endpoint("routines.list", "GET", f"{_D}/routines", "call routines in a query; their code is not shown"),
    Endpoint("routines.get", "GET", f"{_D}/routines/{{routine}}", "call routines in a query; their code is not shown"),
    Endpoint("routines.insert", "POST", f"{_D}/routines", _USE_DDL),
    Endpoint("routines.update", "PUT", f"{_D}/routines/{{routine}}", _USE_DDL),
    Endpoint("routines.delete", "DELETE", f"{_D}/routines/{{routine}}", _USE_DDL),
    Endpoint("models.list", "GET", f"{_D}/models", "models are not served; they may hold training values"),
    Endpoint("models.get", "GET", f"{_D}/models/{{model}}", "models are not served; they may hold training values"),
    Endpoint("models.patch", "PATCH", f"{_D}/models/{{model}}", _USE_DDL),
    Endpoint("models.delete", "DELETE", f"{_D}/models/{{model}}", _USE_DDL),
)

UPLOADS: tuple[Endpoint, ...] = (
    Endpoint("jobs.upload", "POST", f"{_P}/jobs"),
    Endpoint("jobs.uploadPart", "PUT", f"{_P}/jobs"),
    Endpoint("jobs.uploadCancel", "DELETE", f"{_P}/jobs"),
)

# Names of projects, datasets, tables and jobs; ids are longer in no case ("Naming", BigQuery documentation).
_SEGMENT = r"([^/:]{1,1024})"


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("".join(_SEGMENT if part.startswith("{") else re.escape(part) for part in _parts(path)))


def _parts(path: str) -> list[str]:
    return [part for part in re.split(r"(\{\w+\})", path) if part]


Row = tuple[Endpoint, re.Pattern[str], tuple[str, ...]]


def _rows(endpoints: Iterable[Endpoint]) -> tuple[Row, ...]:
    return tuple((each, _pattern(each.path), tuple(re.findall(r"\{(\w+)\}", each.path))) for each in endpoints)


_TABLES: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (PREFIX, _rows(ENDPOINTS)),
    *((prefix, _rows(UPLOADS)) for prefix in UPLOAD_PREFIXES),
)


def owns(path: str) -> bool:
    """Whether a path is BigQuery's at all."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in (PREFIX, *UPLOAD_PREFIXES))


def find_endpoint(method: str, path: str) -> Match | None:
    """The row of the table for a decoded path; None when there is none."""
    for prefix, table in _TABLES:
        for endpoint, pattern, names in table if path.startswith(prefix) else ():
            found = pattern.fullmatch(path.removeprefix(prefix)) if endpoint.method == method else None
            if found is not None:
                return Match(endpoint, dict(zip(names, found.groups(), strict=True)))
    return None
