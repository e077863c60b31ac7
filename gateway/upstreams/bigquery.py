"""What the gateway asks BigQuery besides running statements: the dry run, and what exists.

`BigQueryUpstream` fulfils `analysis.bigquery.dryrun.BigQueryReader`. Nothing is remembered here: how old a definition
may be is for whoever reads it to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.bigquery.dryrun import DryRun, DryRunError, Routine, TablePath, TableSchema, fields_of
from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.upstreams.bigquery_api import BigQueryApi, path_of
from gateway.upstreams.registry import UpstreamFailed

MAX_LISTED = 10_000
_PAGE = 1_000
_POSITION = re.compile(r"\[(\d{1,7}):(\d{1,7})\]")


class BigQueryUpstream:
    def __init__(self, api: BigQueryApi) -> None:
        self._api = api

    async def dry_run(
        self, spec: ConnectionSpec, text: str, parameters: Sequence[Mapping[str, Any]], default_dataset: str
    ) -> DryRun:
        query = query_configuration(text, parameters, default_dataset)
        body: dict[str, Any] = {"configuration": {"dryRun": True, "query": query}}
        if spec.settings.get("location"):
            body["jobReference"] = {"projectId": project_of(spec), "location": spec.settings["location"]}
        try:
            job = await self._api.post(spec, path_of("projects", project_of(spec), "jobs"), body, statement=text)
        except BigQueryError as error:
            return DryRun(error=_dry_run_error(error, text))
        return _read_dry_run(job)

    async def table(self, spec: ConnectionSpec, project: str, dataset: str, table: str) -> TableSchema | None:
        resource = await self.table_resource(spec, project, dataset, table)
        if resource is None:
            return None
        view = resource.get("view") or resource.get("materializedView") or {}
        partitioning = resource.get("timePartitioning") or {}
        return TableSchema(
            fields=fields_of(resource.get("schema") or {}),
            kind=str(resource.get("type", "TABLE")),
            query=str(view.get("query", "")),
            legacy_sql=bool(view.get("useLegacySql", False)),
            ingestion_partitioned=bool(partitioning) and not partitioning.get("field"),
        )

    async def table_resource(
        self, spec: ConnectionSpec, project: str, dataset: str, table: str
    ) -> dict[str, Any] | None:
        """The service's own description, None when there is none. Raises UpstreamFailed."""
        path = path_of("projects", project, "datasets", dataset, "tables", table)
        return await self._existing(spec, path)

    async def dataset_resource(self, spec: ConnectionSpec, project: str, dataset: str) -> dict[str, Any] | None:
        return await self._existing(spec, path_of("projects", project, "datasets", dataset))

    async def tables(self, spec: ConnectionSpec, project: str, dataset: str) -> tuple[str, ...] | None:
        found = await self.table_list(spec, project, dataset)
        return None if found is None else tuple(str(item["tableReference"]["tableId"]) for item in found)

    async def table_list(self, spec: ConnectionSpec, project: str, dataset: str) -> list[dict[str, Any]] | None:
        return await self._all(spec, path_of("projects", project, "datasets", dataset, "tables"), "tables")

    async def datasets(self, spec: ConnectionSpec, project: str) -> tuple[str, ...]:
        found = await self.dataset_list(spec, project)
        return tuple(str(item["datasetReference"]["datasetId"]) for item in found)

    async def dataset_list(self, spec: ConnectionSpec, project: str) -> list[dict[str, Any]]:
        """Without hidden ones: there the service keeps results, of everybody."""
        found = await self._all(spec, path_of("projects", project, "datasets"), "datasets") or []
        return [item for item in found if not is_hidden(str(item["datasetReference"]["datasetId"]))]

    async def routine(self, spec: ConnectionSpec, project: str, dataset: str, routine: str) -> Routine | None:
        found = await self._existing(spec, path_of("projects", project, "datasets", dataset, "routines", routine))
        if found is None:
            return None
        return Routine(
            kind=str(found.get("routineType", "")),
            language=str(found.get("language", "SQL")),
            body=str(found.get("definitionBody", "")),
            arguments=tuple(str(argument.get("name", "")) for argument in found.get("arguments", ())),
        )

    async def _existing(self, spec: ConnectionSpec, path: str) -> dict[str, Any] | None:
        """What is there for the gateway's account: what it may not see is not there."""
        try:
            return await self._api.get(spec, path)
        except BigQueryError as error:
            if error.status in (403, 404):
                return None
            raise UpstreamFailed(error.message) from None

    async def _all(self, spec: ConnectionSpec, path: str, name: str) -> list[dict[str, Any]] | None:
        """Every page of a list, up to a bound; None when there is nothing to list from."""
        found: list[dict[str, Any]] = []
        token: str | None = None
        while len(found) < MAX_LISTED:
            try:
                page = await self._api.get(spec, path, maxResults=_PAGE, pageToken=token)
            except BigQueryError as error:
                if error.status in (403, 404):
                    return None
                raise UpstreamFailed(error.message) from None
            found += page.get(name) or []
            token = page.get("nextPageToken")
            if not token:
                break
        return found[:MAX_LISTED]


def is_hidden(dataset: str) -> bool:
    """Datasets that begin so hold anonymous results and the service's own tables ("Naming datasets")."""
    return dataset.startswith("_")


def project_of(spec: ConnectionSpec) -> str:
    return spec.settings.get("project", "")


def query_configuration(
    text: str, parameters: Sequence[Mapping[str, Any]], default_dataset: str, mode: str = ""
) -> dict[str, Any]:
    """`JobConfigurationQuery`. The mode follows from the parameters where the client left it out."""
    query: dict[str, Any] = {"query": text, "useLegacySql": False}
    if parameters:
        named = any(parameter.get("name") for parameter in parameters)
        query["queryParameters"] = [dict(parameter) for parameter in parameters]
        query["parameterMode"] = mode or ("NAMED" if named else "POSITIONAL")
    if default_dataset:
        project, _, dataset = default_dataset.rpartition(".")
        query["defaultDataset"] = {"projectId": project, "datasetId": dataset}
    return query


def _read_dry_run(job: Mapping[str, Any]) -> DryRun:
    statistics = job.get("statistics") or {}
    query = statistics.get("query") or {}
    tables = query.get("referencedTables")
    processed = query.get("totalBytesProcessed", statistics.get("totalBytesProcessed"))
    return DryRun(
        statement_type=str(query.get("statementType", "")),
        referenced_tables=None if tables is None else frozenset(_path(table) for table in tables),
        schema=fields_of(query["schema"]) if query.get("schema") else None,
        bytes_processed=None if processed is None else int(processed),
    )


def _path(table: Mapping[str, Any]) -> TablePath:
    return TablePath(str(table["projectId"]), str(table["datasetId"]), str(table["tableId"]))


def _dry_run_error(error: BigQueryError, text: str) -> DryRunError:
    place = _POSITION.search(error.message)
    return DryRunError(
        reason=error.reason,
        message=error.message,
        status=error.status,
        position=0 if place is None else _offset(text, int(place[1]), int(place[2])),
    )


def _offset(text: str, line: int, column: int) -> int:
    """1-based character of `[line:column]`; 0 when it points nowhere."""
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        return 0
    return sum(len(before) + 1 for before in lines[: line - 1]) + column
