"""The HTTP data APIs of one data-plane process: which kinds there are, and what each brings to the rest.

A kind brings a surface (its native API), an analyst (what its statements mean) and an opener (for REST, WebSocket and
MCP). Adding a kind is adding it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.identity import TokenVerifier
from gateway.domain.snapshot import ConnectionSpec, StaleSnapshot
from gateway.listeners.bigquery import BigQuerySurface
from gateway.listeners.bigquery_jobs import BigQueryJobs
from gateway.listeners.bigquery_rows import RowWrites
from gateway.listeners.bigquery_tabledata import TableReads
from gateway.listeners.data_api import DataApis, Front
from gateway.listeners.peers import Peers
from gateway.pulses import Beat, unheard
from gateway.session.registry import SessionRegistry
from gateway.session.services import Services
from gateway.upstreams.bigquery import BigQueryUpstream
from gateway.upstreams.bigquery_analyst import BigQueryAnalyst
from gateway.upstreams.bigquery_api import BigQueryApi
from gateway.upstreams.bigquery_session import BigQueryOpener
from gateway.upstreams.google_credentials import UpstreamCredential
from gateway.upstreams.recording import RecordingSink
from gateway.upstreams.registry import OpenUpstream


@dataclass(slots=True)
class DataApiParts:
    """What `gateway.runtime` wires in and, at the end, closes."""

    router: DataApis
    openers: Mapping[str, OpenUpstream]
    jobs: BigQueryJobs
    api: BigQueryApi
    bigquery: BigQuerySurface
    peers: Peers | None = None

    async def answer_peers(self, beat: Beat = unheard) -> None:
        """Serve what other processes send on, until cancelled."""
        if self.peers is not None:
            await self.peers.serve(self.bigquery.answer_peer, beat)

    async def close(self) -> None:
        await self.jobs.close()
        if self.peers is not None:
            await self.peers.close()
        await self.api.close()


def build_data_apis(
    *,
    services: Services,
    registry: SessionRegistry,
    verifier: TokenVerifier,
    recordings: RecordingSink,
    upstream_credential: UpstreamCredential,
    plaintext_on_loopback: bool,
    peers: Peers | None = None,
) -> DataApiParts:
    """Build every surface, and add the analysts of its kinds to `services`."""
    front = Front(services=services, verifier=verifier, plaintext_on_loopback=plaintext_on_loopback)
    api = BigQueryApi(upstream_credential)
    reader = BigQueryUpstream(api)
    services.analysts["bigquery"] = BigQueryAnalyst(reader)
    jobs = BigQueryJobs(services=services, registry=registry, api=api, recordings=recordings)
    tables = TableReads(services=services, api=api, reader=reader, recordings=recordings)
    rows = RowWrites(services=services, api=api)
    surface = BigQuerySurface(front=front, jobs=jobs, reader=reader, tables=tables, rows=rows, peers=peers)

    def connections() -> Mapping[str, ConnectionSpec]:
        try:
            return services.snapshots.current().connections
        except StaleSnapshot:
            return {}  # the surface says so

    return DataApiParts(
        router=DataApis([surface], connections),
        openers={"bigquery": BigQueryOpener(api, upstream_credential, recordings)},
        jobs=jobs,
        api=api,
        bigquery=surface,
        peers=peers,
    )
