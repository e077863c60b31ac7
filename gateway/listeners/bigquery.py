"""The BigQuery v2 REST API, for the official clients unmodified: one row of `protocols.bigquery.endpoints` a handler.

A call is authenticated, matched with its row, and brought to one connection: by its name (`/c/<connection>`, or the
host), or by its project where no two of the caller's connections share one. What is refused says so in BigQuery's own
error object and is on the record; so is every look at what exists.
"""

from __future__ import annotations

from django.conf import settings
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.domain.snapshot import ConnectionSpec, StaleSnapshot
from gateway.listeners import bigquery_metadata as metadata
from gateway.listeners.bigquery_calls import Answer, Call, refuse_odd_names
from gateway.listeners.bigquery_catalogue import CatalogueCalls
from gateway.listeners.bigquery_elsewhere import Elsewhere
from gateway.listeners.bigquery_jobs import BigQueryJobs
from gateway.listeners.bigquery_loads import LoadCalls
from gateway.listeners.bigquery_queries import QueryCalls
from gateway.listeners.bigquery_rows import RowWrites
from gateway.listeners.bigquery_tabledata import TableReads
from gateway.listeners.bigquery_uploads import Uploads
from gateway.listeners.data_api import (
    CONNECTION_PREFIX,
    Caller,
    Front,
    RulesUnavailable,
    Target,
    Unauthenticated,
    may,
    target_of,
)
from gateway.listeners.handover import answered, as_request
from gateway.listeners.http_bodies import let_go
from gateway.listeners.peers import Message, Peers, PeersUnavailable
from gateway.protocols.bigquery import discovery
from gateway.protocols.bigquery.endpoints import Endpoint, find_endpoint, owns
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.session import entries
from gateway.upstreams.bigquery import BigQueryUpstream, project_of
from gateway.upstreams.registry import UpstreamFailed

PROTOCOL = "bigquery"
KIND = "bigquery"
UNKNOWN = "not on the table"


class BigQuerySurface:
    """Fulfils `gateway.listeners.data_api.Surface`."""

    def __init__(
        self,
        *,
        front: Front,
        jobs: BigQueryJobs,
        reader: BigQueryUpstream,
        tables: TableReads,
        rows: RowWrites,
        peers: Peers | None = None,
    ) -> None:
        self._front = front
        uploads = Uploads()
        self._elsewhere = elsewhere = Elsewhere(jobs=jobs, uploads=uploads, peers=peers)
        self._handlers = {
            **QueryCalls(front=front, jobs=jobs, reader=reader, elsewhere=elsewhere).handlers(),
            **CatalogueCalls(front=front, reader=reader, tables=tables, elsewhere=elsewhere).handlers(),
            **LoadCalls(front=front, rows=rows, uploads=uploads, elsewhere=elsewhere).handlers(),
        }

    def owns(self, path: str) -> bool:
        return owns(path) or path in discovery.PATHS

    async def handle(self, request: Request, target: Target) -> Response:
        response = await self._handle(request, target)
        response.headers.setdefault("Cache-Control", "private, no-store")  # rows are the asker's alone
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    async def _handle(self, request: Request, target: Target) -> Response:
        if target.path in discovery.PATHS:
            return described(request, target)
        try:
            answer = await self._answer(request, target)
            return answer if isinstance(answer, Response) else JSONResponse(answer)
        except Unauthenticated:
            error = BigQueryError("required", "the request has no token that is good here", 401)
            return JSONResponse(error.as_json(), status_code=401, headers={"WWW-Authenticate": challenge(request)})
        except (RulesUnavailable, StaleSnapshot):
            error = BigQueryError("accessDenied", "the gateway's rules are out of date; try again", 403)
        except BigQueryError as refused:
            error = refused
        except PeersUnavailable:
            error = BigQueryError("backendError", "the gateway that holds this cannot be asked now; try again")
        except UpstreamFailed as failed:
            error = BigQueryError("accessDenied", failed.message, 403)
        finally:
            let_go(request)
        return JSONResponse(error.as_json(), status_code=error.as_json()["error"]["code"])

    async def answer_peer(self, question: Message) -> Message:
        """A request another process sent on."""
        request = as_request(question)
        return answered(await self.handle(request, target_of(request, self._front.snapshot().connections)))

    async def _answer(self, request: Request, target: Target) -> Answer:
        caller = await self._front.admit(request, protocol=PROTOCOL, connection=target.connection)
        found = find_endpoint(request.method, target.path)
        if found is not None and found.endpoint.name == "projects.list":
            return metadata.project_list(self._usable(caller, target.connection))
        project = found.parameters.get("project", "") if found is not None else ""
        spec = self._connection(caller, target.connection, project)
        if found is None or found.endpoint.refusal:
            raise await self._refused(caller, spec, None if found is None else found.endpoint)
        refuse_odd_names(found.parameters)
        call = Call(request, caller, spec, found.endpoint, found.parameters)
        holder = await self._elsewhere.holder_of(call)
        if holder:
            return await self._elsewhere.hand_over(call, holder)
        return await self._handlers[found.endpoint.name](call)

    def _usable(self, caller: Caller, named: str) -> list[ConnectionSpec]:
        """The BigQuery connections the caller may enter; only the named one where one is named."""
        snapshot = self._front.snapshot()
        return [
            spec
            for name, spec in snapshot.connections.items()
            if spec.kind == KIND and spec.enabled and named in ("", name) and may(snapshot, caller.principal, name)
        ]

    def _connection(self, caller: Caller, named: str, project: str) -> ConnectionSpec:
        usable = self._usable(caller, named)
        matching = [spec for spec in usable if project in ("", project_of(spec))]
        if len(matching) > 1:
            names = ", ".join(spec.name for spec in matching)
            raise BigQueryError(
                "invalid", f"several connections serve this project: put /c/<connection> before the path ({names})"
            )
        if not matching:
            raise BigQueryError("notFound", f"Not found: Project {project[:200]}")
        return matching[0]

    async def _refused(self, caller: Caller, spec: ConnectionSpec, endpoint: Endpoint | None) -> BigQueryError:
        """Record the attempt, and say what to do instead."""
        name = UNKNOWN if endpoint is None else endpoint.name
        sentence = "this endpoint is not served" if endpoint is None else f"{name} is not served: {endpoint.refusal}"
        await self._front.services.record.append(entries.request_refused(caller.session(spec), name, "not-served"))
        return BigQueryError("accessDenied", sentence)


def described(request: Request, target: Target) -> Response:
    """The API's description, for everybody: it says nothing about anything here."""
    if request.method != "GET" or request.query_params.get("version", discovery.VERSION) != discovery.VERSION:
        return JSONResponse(BigQueryError("notFound", "Not found: no such API").as_json(), status_code=404)
    prefix = f"{CONNECTION_PREFIX}{target.connection}" if target.connection else ""
    return JSONResponse(discovery.discovery_document(f"{settings.HOOPWEB_HTTP_URL}{prefix}"))


def challenge(request: Request) -> str:
    """RFC 9728 §5.1: where a client learns who issues tokens for this resource."""
    return (
        f'Bearer resource_metadata="{request.url.scheme}://{request.url.netloc}/.well-known/oauth-protected-resource"'
    )
