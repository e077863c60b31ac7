"""Datasets and tables as a principal may see them: what exists, how it is typed, and what of it comes masked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.statement import ColumnRef
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.data_api import Caller
from gateway.protocols.bigquery import resources
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.upstreams.bigquery import BigQueryUpstream, is_hidden, project_of
from masking.domain.rules import MaskingRule, rules_for


def project_list(connections: Iterable[ConnectionSpec]) -> dict[str, Any]:
    projects = sorted({project_of(spec) for spec in connections})
    listed = [
        {
            "kind": "bigquery#project",
            "id": project,
            "friendlyName": project,
            "projectReference": {"projectId": project},
        }
        for project in projects
    ]
    return {"kind": "bigquery#projectList", "projects": listed, "totalItems": len(listed)}


def dataset_list(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"kind": "bigquery#datasetList", "datasets": [resources.dataset_resource(item) for item in found]}


async def dataset(reader: BigQueryUpstream, spec: ConnectionSpec, name: str) -> dict[str, Any]:
    found = None if is_hidden(name) else await reader.dataset_resource(spec, project_of(spec), name)
    if found is None:
        raise _no_dataset(spec, name)
    return resources.dataset_resource(found)


async def table_list(reader: BigQueryUpstream, spec: ConnectionSpec, dataset: str) -> dict[str, Any]:
    found = None if is_hidden(dataset) else await reader.table_list(spec, project_of(spec), dataset)
    if found is None:
        raise _no_dataset(spec, dataset)
    tables = [resources.table_item(item) for item in found]
    return {"kind": "bigquery#tableList", "tables": tables, "totalItems": len(tables)}


async def table(
    reader: BigQueryUpstream,
    spec: ConnectionSpec,
    dataset: str,
    name: str,
    *,
    rules: tuple[MaskingRule, ...],
    caller: Caller,
) -> dict[str, Any]:
    """The table, its masked fields described as such."""
    found = await find_table(reader, spec, dataset, name)
    fields = (found.get("schema") or {}).get("fields") or ()
    scope = rules_for(rules, spec.name)
    masked = {}
    for path in field_paths(fields):
        rule = scope.rule_for(ColumnRef(dataset, name, path))
        if rule is not None and not rule.exempts(caller.principal.groups):
            masked[path] = f"masked by the gateway: {rule.technique.value} (rule {rule.name})"
    return resources.table_resource(found, masked)


async def find_table(reader: BigQueryUpstream, spec: ConnectionSpec, dataset: str, name: str) -> dict[str, Any]:
    found = None if is_hidden(dataset) else await reader.table_resource(spec, project_of(spec), dataset, name)
    if found is None:
        raise BigQueryError("notFound", f"Not found: Table {project_of(spec)}:{dataset}.{name}")
    return found


def field_paths(fields: Iterable[Mapping[str, Any]], above: str = "") -> Iterable[str]:
    """Every column and nested field as its dotted path, outer ones first."""
    for field in fields:
        path = f"{above}{field['name']}"
        yield path
        yield from field_paths(field.get("fields") or (), f"{path}.")


def _no_dataset(spec: ConnectionSpec, name: str) -> BigQueryError:
    return BigQueryError("notFound", f"Not found: Dataset {project_of(spec)}:{name}")
