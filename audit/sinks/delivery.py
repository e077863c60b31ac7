"""Delivering the log to a sink: in order, at least once, from where the receiver left off.

The log is the spool. A batch begins behind the sink's cursor; the cursor moves once the receiver has the batch, so a
crash in between sends it again under the same ids. A receiver that refuses or is away is asked again after a growing
pause; nothing is skipped, and nothing waits in memory: what is not delivered yet is in the log. One process at a time
delivers to a sink, by an advisory lock of the control database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from urllib.parse import parse_qs

from django.conf import settings

from audit.domain.exclusive import alone
from audit.domain.head import stated_size
from audit.domain.keys import log_origin
from audit.models import LogEntry, Sink
from audit.sinks import syslog
from audit.sinks.attempts import failed, may_try, succeeded
from audit.sinks.event import Event, read_event
from audit.sinks.formats import FORMATS, Format
from audit.sinks.secret import way_to
from audit.sinks.sending import NotDelivered, Way, append_file, post, stream

MAX_BATCH = 500
MAX_BATCH_BYTES = 1 << 20
TURN_S = 20.0  # how long one turn may go on sending before others get theirs
_LOCK = 0x686F6F70_00000000


@dataclass(frozen=True, slots=True)
class Batch:
    """Events and their texts, and the place in the log the receiver is at once it has them."""

    events: tuple[Event, ...]
    texts: tuple[str, ...]
    upto: int


def due_sinks() -> list[int]:
    """The enabled sinks that have something to deliver and are not waiting after a failure."""
    now, size = datetime.now(UTC), stated_size()
    due = Sink.objects.filter(may_try(now), enabled=True, cursor__lt=size)
    return list(due.values_list("pk", flat=True))


def deliver(sink_id: int) -> int:
    """Deliver what is due to one sink, for at most TURN_S. Returns how many events the receiver took."""
    with alone(_LOCK + sink_id) as mine:
        if not mine:
            return 0
        return _deliver_all(sink_id)


def _deliver_all(sink_id: int) -> int:
    end, delivered = datetime.now(UTC) + timedelta(seconds=TURN_S), 0
    while datetime.now(UTC) < end:
        sink = Sink.objects.filter(pk=sink_id, enabled=True).first()
        if sink is None:
            break
        try:
            batch = _next_batch(sink)
            if batch.upto == sink.cursor:
                break
            if batch.events:
                send(sink, batch)
        except NotDelivered as problem:
            failed(sink, problem, batch=max(1, sink.batch // 2) if problem.too_large else sink.batch)
            break
        succeeded(sink, cursor=batch.upto, batch=min(MAX_BATCH, sink.batch * 2))
        delivered += len(batch.events)
    return delivered


def _next_batch(sink: Sink) -> Batch:
    spec, origin = FORMATS[sink.format], log_origin()
    events: list[Event] = []
    texts: list[str] = []
    upto, total = sink.cursor, 0
    for seq, leaf, kind, canonical in _entries(sink):
        if _wanted(kind, sink.kinds):
            event = _event(log=origin, seq=seq, leaf=leaf, canonical=canonical)
            text = spec.encode(event)
            total += len(text)
            if texts and total > MAX_BATCH_BYTES:
                break
            events.append(event)
            texts.append(text)
        upto = seq
    return Batch(tuple(events), tuple(texts), upto)


def _event(*, log: str, seq: int, leaf: bytes, canonical: bytes) -> Event:
    try:
        return read_event(log=log, seq=seq, leaf=leaf, canonical=canonical)
    except ValueError:
        # A damaged log is not delivered past its damage: the receiver must not take what follows for the log.
        raise NotDelivered(f"entry {seq} is damaged") from None


def _entries(sink: Sink) -> Iterator[tuple[int, bytes, str, bytes]]:
    rows = LogEntry.objects.filter(seq__gt=sink.cursor).order_by("seq")
    for seq, leaf, kind, canonical in rows.values_list("seq", "leaf", "kind", "canonical")[: sink.batch]:
        yield seq, bytes(leaf), kind, bytes(canonical)


def _wanted(kind: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(kind, glob) for glob in globs)


def send(sink: Sink, batch: Batch) -> None:
    """Hand the batch over. Raises NotDelivered."""
    spec, way = FORMATS[sink.format], way_of(sink)
    if way.target.transport == "http":
        _post(sink, way, spec, batch)
    elif way.target.transport == "syslog":
        host = settings.HOOPWEB_WEB_URL.partition("://")[2].partition("/")[0].partition(":")[0]
        structured = sink.format == "syslog"
        messages = [
            syslog.message(event, text, host=host, structured=structured)
            for event, text in zip(batch.events, batch.texts, strict=True)
        ]
        stream(way, [syslog.framed(message) for message in messages])
    else:
        append_file(way, batch.texts)


def way_of(sink: Sink) -> Way:
    """Raises NotDelivered when the stored secret cannot be used."""
    return way_to(sink, ca=sink.ca, directory=settings.HOOPWEB_SINK_DIR)


def _post(sink: Sink, way: Way, spec: Format, batch: Batch) -> None:
    body = spec.envelope(list(batch.texts))
    if sink.format == "cloud-logging":
        body = _named_log(body, way.target.query)
    answer = post(way, body.encode(), content_type=spec.content_type)
    if sink.format == "fhir":
        _require_all_taken(answer, len(batch.texts))


def _named_log(body: str, query: str) -> str:
    """The log and the resource every entry of the write belongs to, as the sink's URL says."""
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    name = {"logName": f"projects/{asked.get('project', '-')}/logs/{asked.get('log', 'hoopweb')}"}
    common = {**name, "resource": {"type": "global"}}
    return json.dumps(common)[:-1] + "," + body[1:]


def _require_all_taken(answer: bytes, count: int) -> None:
    """A FHIR server answers a batch entry by entry (https://hl7.org/fhir/R4/http.html#transaction-response)."""
    try:
        statuses = [str(entry["response"]["status"]) for entry in json.loads(answer)["entry"]]
    except (ValueError, KeyError, TypeError):
        raise NotDelivered("the answer is no Bundle of responses") from None
    taken = sum(status.startswith("2") for status in statuses)
    if taken != count:
        raise NotDelivered(f"the server took {taken} of {count} events")
