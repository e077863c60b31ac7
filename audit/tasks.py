"""Background work of the evidence: delivering it, anchoring it, reporting on it. Tasks take ids and delegate.

All of them run in the queue `evidence`, which has a worker of its own: a receiver that hangs delays no reviewer's mail.
"""

from __future__ import annotations

import logging

from celery import shared_task

from audit.anchors.delivery import anchor_newest, due_anchors
from audit.domain.check import check_evidence
from audit.domain.chunk_partitions import extend_months
from audit.domain.chunk_store import StoreUnavailable
from audit.domain.leap import LEAPT, may_have_leapt
from audit.domain.partitions import extend_partitions
from audit.domain.retention import PurgeRefused, purge
from audit.reports.making import forget_old_runs, make_run
from audit.sinks.delivery import deliver, due_sinks
from audit.sinks.schedule import QUEUE

logger = logging.getLogger(__name__)


@shared_task(name="audit.deliver")  # type: ignore[untyped-decorator]
def deliver_due() -> None:
    """One task for each sink and anchor that has something to do, so that none waits for another."""
    for sink in due_sinks():
        deliver_sink.apply_async((sink,), queue=QUEUE, expires=30)
    for anchor in due_anchors():
        publish_newest.apply_async((anchor,), queue=QUEUE, expires=30)


@shared_task(name="audit.anchor_newest")  # type: ignore[untyped-decorator]
def publish_newest(anchor_id: int) -> None:
    anchor_newest(anchor_id)


@shared_task(name="audit.deliver_sink")  # type: ignore[untyped-decorator]
def deliver_sink(sink_id: int) -> None:
    deliver(sink_id)


@shared_task(name="audit.make_room")  # type: ignore[untyped-decorator]
def make_room() -> None:
    """Keep partitions ahead of the log."""
    extend_partitions()


@shared_task(name="audit.check")  # type: ignore[untyped-decorator]
def check(incremental: bool) -> None:
    """Findings become damage, which the console shows and the log says; the task itself succeeds."""
    extend_partitions()
    extend_months()
    try:
        check_evidence(checked_by="schedule", incremental=incremental)
    except StoreUnavailable as away:  # no damage, and no check either: the next one looks again
        logger.error("evidence not checked: %s", away)


@shared_task(name="audit.purge")  # type: ignore[untyped-decorator]
def purge_evidence() -> None:
    if may_have_leapt():
        logger.error("evidence not purged: %s", LEAPT)
        return
    try:
        purge(by="schedule")
    except (PurgeRefused, StoreUnavailable) as refused:
        logger.error("evidence not purged, or not all of it: %s", refused)


@shared_task(name="audit.make_report")  # type: ignore[untyped-decorator]
def make_report_run(run_id: str) -> None:
    make_run(run_id)


@shared_task(name="audit.forget_old_reports")  # type: ignore[untyped-decorator]
def forget_old_reports() -> None:
    forget_old_runs()
