"""`GET /metrics` for Prometheus: counts and ages, never a value; labels are connections, sinks and parts, never people.

Asked for with the token of `HOOPWEB_METRICS_TOKEN`; without that setting the page does not exist.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from approvals.models import Review
from audit.models import Checkpoint, LogDamage, LogEntry, SessionRecord, StatementRecord
from audit.sinks.lag import lags
from gateway.api.authentication import bearer_token
from hoopweb.health import PARTS, failing_parts
from hoopweb.recent import failures_since

RECENT = timedelta(minutes=5)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    expected = settings.HOOPWEB_METRICS_TOKEN
    if not expected:
        raise Http404("no metrics token is configured")
    given = bearer_token(request.headers.get("Authorization", "")) or ""
    if not hmac.compare_digest(given.encode(), expected.encode()):
        return HttpResponse(status=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    registry = CollectorRegistry()
    registry.register(Installation())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class Installation(Collector):
    """The state of the installation as the control database tells it, read when asked: a handful of indexed counts."""

    def describe(self) -> list[Metric]:
        return []  # registering asks for names only when this is missing, and would query the database

    def collect(self) -> Iterator[Metric]:
        for measure in (_parts, _sessions, _statements, _reviews, _log, _sinks):
            yield from measure()


def _parts() -> Iterator[Metric]:
    failing = failing_parts()
    yield _labelled("hoopweb_up", "whether a part answers", "part", {part: int(part not in failing) for part in PARTS})


def _sessions() -> Iterator[Metric]:
    rows = SessionRecord.objects.filter(closed_at=None).order_by().values_list("connection").annotate(Count("id"))
    yield _labelled("hoopweb_sessions_live", "sessions that are open", "connection", dict(rows))


def _statements() -> Iterator[Metric]:
    """Of the last five minutes, because a rate is what is watched and counting everything would grow for ever."""
    rows = StatementRecord.objects.filter(at__gte=timezone.now() - RECENT).order_by()
    family = GaugeMetricFamily(
        "hoopweb_statements_recent", "statements of the last five minutes", labels=["connection", "status"]
    )
    for connection, status, count in rows.values_list("connection", "status").annotate(Count("id")):
        family.add_metric([connection, status], count)
    yield family


def _reviews() -> Iterator[Metric]:
    now = timezone.now()
    pending = Review.objects.filter(status=Review.Status.PENDING, decide_by__gt=now)
    oldest = pending.order_by("opened_at").values_list("opened_at", flat=True).first()
    yield GaugeMetricFamily("hoopweb_reviews_pending", "statements that wait for a person", value=pending.count())
    waited = (now - oldest).total_seconds() if oldest else 0.0
    yield GaugeMetricFamily("hoopweb_reviews_oldest_seconds", "how long the oldest of them waits", value=waited)


def _log() -> Iterator[Metric]:
    newest = LogEntry.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
    signed = Checkpoint.objects.values_list("signed_at", flat=True).first()
    age = (timezone.now() - signed).total_seconds() if signed else float("inf")
    failed = failures_since(timezone.now() - RECENT)
    yield CounterMetricFamily("hoopweb_log_entries", "entries of the evidence log", value=newest)
    yield GaugeMetricFamily("hoopweb_log_checkpoint_age_seconds", "since the log's head was signed", value=age)
    damage = LogDamage.objects.filter(cleared_at__isnull=True).count()
    yield GaugeMetricFamily("hoopweb_log_damage", "places that are not as written", value=damage)
    yield GaugeMetricFamily("hoopweb_authentication_failures_recent", "of the last five minutes", value=failed)


def _sinks() -> Iterator[Metric]:
    found = lags()
    measures: tuple[tuple[str, str, Callable[[int], float]], ...] = (
        ("hoopweb_sink_lag_entries", "entries a sink has not taken", lambda i: found[i].entries),
        ("hoopweb_sink_lag_seconds", "age of the oldest of them", lambda i: found[i].seconds),
    )
    for name, text, value in measures:
        yield _labelled(name, text, "sink", {lag.sink: value(index) for index, lag in enumerate(found)})


def _labelled(name: str, text: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
