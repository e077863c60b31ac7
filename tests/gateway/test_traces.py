"""Traces as a real OTLP receiver gets them: every stage, the client's own trace joined, and never a value."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.session.context import StatementRequest
from gateway.session.pipeline import run_statement
from gateway.traces import Tracer
from tests.gateway.session.doors import World

SQL = "select city from patients where mrn = 'canary-value'"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@dataclass
class Receiver:
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Any]:
        found = []
        for body in self.bodies:
            request = ExportTraceServiceRequest.FromString(body)
            found += [span for rs in request.resource_spans for scope in rs.scope_spans for span in scope.spans]
        return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    got = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            got.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    got.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield got
    server.shutdown()
    thread.join()
    server.server_close()


async def traced(receiver: Receiver, world: World, *, percent: int = 100, **session: Any) -> list[Any]:
    tracer = Tracer(receiver.url, percent=percent)
    services = world.services
    services.meter.trace = tracer.statement
    await run_statement(services, replace(world.session, **session), StatementRequest(SQL), world.client)
    tracer.close()
    return receiver.spans()


async def test_stages_are_spans_of_the_statements(receiver: Receiver) -> None:
    spans = await traced(receiver, World())

    by_name = {span.name: span for span in spans}
    assert set(by_name) == {"statement", "analyse", "record", "execute"}
    root = by_name.pop("statement")
    assert {span.parent_span_id for span in by_name.values()} == {root.span_id}
    for span in by_name.values():
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano


@pytest.mark.parametrize("session", [{"traceparent": PARENT}, {"application": f"report {PARENT}"}])
async def test_the_clients_own_trace_is_joined(receiver: Receiver, session: dict[str, str]) -> None:
    spans = await traced(receiver, World(), percent=0, **session)  # a sampled parent decides

    assert {span.trace_id.hex() for span in spans} == {TRACE}


async def test_nothing_is_sampled_at_zero_percent(receiver: Receiver) -> None:
    assert await traced(receiver, World(), percent=0) == []


async def test_denials_are_traced_as_far_as_they_came(receiver: Receiver) -> None:
    world = World()
    world.analyst.error = ValueError("canary-error")

    spans = await traced(receiver, world)

    assert {span.name for span in spans} == {"statement", "analyse"}
    [root] = [span for span in spans if span.name == "statement"]
    told = {attribute.key: attribute.value.string_value for attribute in root.attributes}
    assert told["hoopweb.outcome"] == "denied"


async def test_no_value_name_or_text_leaves(receiver: Receiver) -> None:
    await traced(receiver, World())

    sent = b"".join(receiver.bodies)
    assert b"clinic" in sent
    assert not any(word in sent for word in (b"canary", b"patients", b"select", b"demo-agent"))
