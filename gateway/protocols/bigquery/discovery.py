"""The API's description of itself, which `bq` and google-api-python-client ask for before anything else.

Made of the table of endpoints: what is refused is described as well, so that clients send it and hear why. Bodies and
answers are described as objects, no more; the Google API Discovery Service's format, "Discovery document" reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.protocols.bigquery.endpoints import ENDPOINTS, PREFIX, UPLOAD_PREFIXES, Endpoint

VERSION = "v2"
# As this API's own host has it, and as the service for all of Google's APIs does.
PATHS = frozenset({"/$discovery/rest", f"/discovery/v1/apis/bigquery/{VERSION}/rest"})

_SCOPE = "https://www.googleapis.com/auth/bigquery"
_OBJECT = {"$ref": "Object"}
_IDS = {
    "project": "projectId",
    "dataset": "datasetId",
    "table": "tableId",
    "job": "jobId",
    "routine": "routineId",
    "model": "modelId",
    "policy": "policyId",
}
_PAGED = ("maxResults", "pageToken")
_FORMAT = ("formatOptions.useInt64Timestamp", "formatOptions.timestampOutputFormat")
_QUERY: Mapping[str, tuple[str, ...]] = {
    "projects.list": _PAGED,
    "datasets.list": (*_PAGED, "all", "filter"),
    "datasets.get": ("datasetView", "accessPolicyVersion"),
    "datasets.insert": ("accessPolicyVersion",),
    "datasets.update": ("updateMode", "accessPolicyVersion"),
    "datasets.patch": ("updateMode", "accessPolicyVersion"),
    "datasets.delete": ("deleteContents",),
    "tables.list": _PAGED,
    "tables.get": ("selectedFields", "view"),
    "tables.update": ("autodetect_schema",),
    "tables.patch": ("autodetect_schema",),
    "tabledata.list": (*_PAGED, *_FORMAT, "selectedFields", "startIndex"),
    "jobs.list": (
        *(*_PAGED, "allUsers", "maxCreationTime", "minCreationTime"),
        *("parentJobId", "projection", "stateFilter"),
    ),
    "jobs.get": ("location",),
    "jobs.cancel": ("location",),
    "jobs.delete": ("location",),
    "jobs.getQueryResults": (*_PAGED, *_FORMAT, "location", "startIndex", "timeoutMs"),
    "models.list": _PAGED,
    "routines.list": (*_PAGED, "filter", "readMask"),
    "routines.get": ("readMask",),
    "rowAccessPolicies.list": ("pageToken", "pageSize"),
    "rowAccessPolicies.delete": ("force",),
}
_KINDS = {
    **dict.fromkeys(("all", "allUsers", "autodetect_schema", "deleteContents", "force"), "boolean"),
    **dict.fromkeys(("accessPolicyVersion", "maxResults", "pageSize", "timeoutMs"), "integer"),
    "formatOptions.useInt64Timestamp": "boolean",
}
_MANY = frozenset({"stateFilter"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_WITHOUT = frozenset({"jobs.cancel"})  # a body, though it is a POST


def discovery_document(root: str) -> dict[str, Any]:
    """`root` is the address clients dial, the connection's prefix included, without a slash at the end."""
    resources: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        resource, _, method = endpoint.name.partition(".")
        resources.setdefault(resource, {"methods": {}})["methods"][method] = _method(endpoint)
    service = f"{PREFIX[1:]}/"
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"bigquery:{VERSION}",
        "name": "bigquery",
        "version": VERSION,
        "title": "BigQuery API, as this gateway serves it",
        "protocol": "rest",
        "rootUrl": f"{root}/",
        "servicePath": service,
        "baseUrl": f"{root}/{service}",
        "basePath": f"/{service}",
        "auth": {"oauth2": {"scopes": {_SCOPE: {"description": "Run queries"}}}},
        "parameters": {name: _parameter(name) for name in ("alt", "fields", "key", "prettyPrint", "quotaUser")},
        "schemas": {"Object": {"id": "Object", "type": "object"}},
        "resources": resources,
    }


def _method(endpoint: Endpoint) -> dict[str, Any]:
    in_path = [_IDS[name] for name in re.findall(r"\{(\w+)\}", endpoint.path)]
    path = re.sub(r"\{(\w+)\}", lambda found: f"{{+{_IDS[found[1]]}}}", endpoint.path).removeprefix("/")
    described: dict[str, Any] = {
        "id": f"bigquery.{endpoint.name}",
        "httpMethod": endpoint.method,
        "path": path,
        "parameterOrder": in_path,
        "parameters": {
            **{name: {"type": "string", "location": "path", "required": True} for name in in_path},
            **{name: _parameter(name) for name in _QUERY.get(endpoint.name, ())},
        },
        "scopes": [_SCOPE],
    }
    if endpoint.refusal:
        described["description"] = f"Not served: {endpoint.refusal}."
    if endpoint.method in _WITH_BODY and endpoint.name not in _WITHOUT:
        described["request"] = _OBJECT
    if endpoint.method != "DELETE":
        described["response"] = _OBJECT
    if endpoint.name == "jobs.insert":
        described |= {"supportsMediaUpload": True, "mediaUpload": _uploads(path)}
    return described


def _uploads(path: str) -> dict[str, Any]:
    simple, resumable = (f"{prefix}/{path}" for prefix in UPLOAD_PREFIXES)
    return {
        "accept": ["*/*"],
        "protocols": {
            "simple": {"multipart": True, "path": simple},
            "resumable": {"multipart": True, "path": resumable},
        },
    }


def _parameter(name: str) -> dict[str, Any]:
    kind = {"type": _KINDS.get(name, "string"), "location": "query"}
    return {**kind, "repeated": True} if name in _MANY else kind
