"""Publishing the newest checkpoint to every anchor when it is due. The newest one commits to all before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from audit.anchors.publishing import publish_to
from audit.domain.exclusive import alone
from audit.models import Anchor, AnchorProof, Checkpoint
from audit.sinks.attempts import failed, may_try, succeeded
from audit.sinks.sending import NotDelivered, PartlyDelivered

_LOCK = 0x686F6F71_00000000


def due_anchors() -> list[int]:
    """The enabled anchors whose time has come, if there is a checkpoint they do not have."""
    now = datetime.now(UTC)
    newest = Checkpoint.objects.order_by("-id").values_list("id", flat=True).first() or 0
    found = Anchor.objects.filter(may_try(now), enabled=True, cursor__lt=newest)
    return [row.pk for row in found if _is_without(row) or _old_enough(row, now)]


def anchor_newest(anchor_id: int) -> bool:
    """Publish the newest checkpoint to one anchor. Returns whether it has it now."""
    with alone(_LOCK + anchor_id) as mine:
        anchor = Anchor.objects.filter(pk=anchor_id, enabled=True).first() if mine else None
        checkpoint = Checkpoint.objects.order_by("-id").first()
        if anchor is None or checkpoint is None or checkpoint.pk <= anchor.cursor:
            return False
        try:
            proof = publish_to(anchor, checkpoint)
        except PartlyDelivered as problem:
            _keep(anchor, checkpoint, problem.proof)
            failed(anchor, problem, cursor=checkpoint.pk, delivered_at=datetime.now(UTC))
            return False
        except NotDelivered as problem:
            failed(anchor, problem)
            return False
        _keep(anchor, checkpoint, proof)
        succeeded(anchor, cursor=checkpoint.pk)
        return True


def _keep(anchor: Anchor, checkpoint: Checkpoint, proof: bytes) -> None:
    AnchorProof.objects.create(
        anchor=anchor.name,
        kind=anchor.kind,
        size=checkpoint.size,
        note=checkpoint.note,
        proof=proof,
        at=datetime.now(UTC),
    )


def _is_without(row: Anchor) -> bool:
    """It fails, and nobody there was given a checkpoint since: asked again as soon as it may be."""
    since = row.failing_since
    return since is not None and (row.delivered_at is None or row.delivered_at < since)


def _old_enough(anchor: Anchor, now: datetime) -> bool:
    """One of the future is as old as it is ahead: the clock was set back since."""
    return anchor.delivered_at is None or abs(now - anchor.delivered_at) >= timedelta(seconds=anchor.every_s)
