"""OpenTelemetry traces of statements (opt-in, `HOOPWEB_OTLP_ENDPOINT`): how long each stage took, and never a value.

A statement's spans are made when it has ended, from the times its stages were measured at for metrics, so tracing
changes nothing on the way. A client's own trace is joined by W3C Trace Context: the `traceparent` header over REST, or
one standing in `application_name` natively. Attributes are ids, names of connections and protocols, and the outcome.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from gateway.session.context import SessionContext

# W3C Trace Context, version 00; all-zero ids are invalid, and the library refuses them.
TRACEPARENT = re.compile(r"\b00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\b")
_SYSTEMS = {"postgres": "postgresql", "bigquery": "gcp.bigquery", "mysql": "mysql"}

Span = tuple[str, float, float]  # stage, began, ended, by time.perf_counter


class TracingUnavailable(OSError):
    """Tracing is asked for and its libraries are not installed."""


class Tracer:
    """Hands finished statements to an OTLP/HTTP receiver, from a thread of the library's own."""

    def __init__(self, endpoint: str, *, percent: int) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
        except ImportError:
            raise TracingUnavailable(
                "HOOPWEB_OTLP_ENDPOINT is set, and the libraries are missing: pip install -r requirements-traces.txt"
            ) from None
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "hoopweb-gateway"}),
            sampler=ParentBased(TraceIdRatioBased(percent / 100)),
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("hoopweb")

    def statement(self, session: SessionContext, statement_id: str, spans: Sequence[Span], outcome: str) -> None:
        """One span for the statement, from its first stage to its last, and one for each stage in it."""
        if not spans:
            return
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415

        offset = time.time_ns() - time.perf_counter_ns()
        root = self._tracer.start_span(
            "statement",
            context=_parent_of(session),
            kind=SpanKind.SERVER,
            start_time=_unix_ns(spans[0][1], offset),
            attributes=_attributes(session, statement_id, outcome),
        )
        inside = set_span_in_context(root)
        for stage, began, ended in spans:
            child = self._tracer.start_span(stage, context=inside, start_time=_unix_ns(began, offset))
            child.end(end_time=_unix_ns(ended, offset))
        root.end(end_time=_unix_ns(max(ended for _, _, ended in spans), offset))

    def close(self) -> None:
        """Send what is left; waits for the receiver for a few seconds at most."""
        self._provider.force_flush(3_000)
        self._provider.shutdown()


def _attributes(session: SessionContext, statement_id: str, outcome: str) -> dict[str, str]:
    return {
        "db.system.name": _SYSTEMS.get(session.connection.kind, session.connection.kind),
        "hoopweb.connection": session.connection.name,
        "hoopweb.protocol": session.protocol,
        "hoopweb.session": session.session_id,
        "hoopweb.statement": statement_id,
        "hoopweb.outcome": outcome,
    }


def _parent_of(session: SessionContext) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    found = TRACEPARENT.search(session.traceparent) or TRACEPARENT.search(session.application)
    return TraceContextTextMapPropagator().extract({"traceparent": found[0]} if found else {})


def _unix_ns(moment: float, offset: int) -> int:
    return int(moment * 1_000_000_000) + offset
