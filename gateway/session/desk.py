"""Where a held statement waits: the pipeline's ReviewDesk over approvals' domain functions and the channel layer.

The decision is made in another process. It is told through the channel layer (`review_changed`), and asked for every
HOOPWEB_REVIEW_POLL_S as well, because a lost message may delay a decision but never lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict

from django.conf import settings

from analysis.estimate import UNKNOWN, RowsExpected
from approvals.domain.emergency_use import (
    claim_emergency,
    confirm_emergency,
    emergency_stands,
    end_emergency_use,
    release_emergency_use,
)
from approvals.domain.grant import claim_grant, confirm_grant, end_use, grant_stands, release_grant
from approvals.domain.refusal import Refusal
from approvals.domain.request import AccessRequest, Binding, Decision, GrantClaim, RequireApproval
from approvals.domain.review import open_review, review_status, withdraw_review
from approvals.domain.scope import Asked
from gateway.domain.threads import in_thread
from gateway.session.context import SessionContext
from gateway.session.decision_inputs import DecisionInputs
from gateway.session.services import Masks, ReviewRefused
from gateway.session.transport import PendingReview

logger = logging.getLogger(__name__)

_ENDINGS = {
    "denied": ("review-denied", "a reviewer denied this statement"),
    "expired": ("review-expired", "nobody decided in time; the request expired"),
    "withdrawn": ("review-withdrawn", "the request was withdrawn"),
}


class DatabaseReviewDesk:
    def __init__(self) -> None:
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._counting: set[asyncio.Future[None]] = set()
        self._inputs = DecisionInputs()

    async def claim(
        self,
        binding: Binding,
        statement_id: str,
        *,
        session_id: str,
        request: AccessRequest,
        decision: RequireApproval,
        expected: RowsExpected = UNKNOWN,
    ) -> GrantClaim | None:
        return await in_thread(
            claim_grant,
            binding=binding,
            statement_id=statement_id,
            session_id=session_id,
            asked=Asked.by(request, decision, expected),
        )

    async def claim_emergency(
        self, emergency_id: str, *, request: AccessRequest, decision: Decision, statement_id: str, session_id: str
    ) -> GrantClaim | None:
        return await in_thread(
            claim_emergency,
            emergency_id=emergency_id,
            request=request,
            decision=decision,
            statement_id=statement_id,
            session_id=session_id,
        )

    async def confirm(self, claim: GrantClaim, statement_id: str) -> bool:
        confirm = confirm_emergency if claim.emergency else confirm_grant
        return await in_thread(confirm, claim=claim, statement_id=statement_id)

    async def stands(self, claim: GrantClaim) -> bool:
        return await in_thread(emergency_stands if claim.emergency else grant_stands, claim=claim)

    async def release(self, claim: GrantClaim, statement_id: str) -> None:
        release = release_emergency_use if claim.emergency else release_grant
        await in_thread(release, claim=claim, statement_id=statement_id)

    def keep_inputs(self, request: AccessRequest, snapshot_version: int) -> str:
        return self._inputs.keep(request, snapshot_version)

    async def close(self) -> None:
        """Return when what decisions were made of is stored."""
        await self._inputs.close()

    def used(self, claim: GrantClaim, statement_id: str, rows: int | None) -> None:
        if claim.emergency:
            ended = in_thread(end_emergency_use, claim=claim, statement_id=statement_id, rows=rows or 0)
        else:
            ended = in_thread(end_use, claim=claim, statement_id=statement_id, rows=rows)
        task = asyncio.ensure_future(ended)
        self._counting.add(task)
        task.add_done_callback(self._counted)

    def _counted(self, task: asyncio.Future[None]) -> None:
        self._counting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("rows of a grant not counted: error=%s", type(error).__name__)

    async def open(
        self,
        *,
        request: AccessRequest,
        binding: Binding,
        decision: RequireApproval,
        session: SessionContext,
        statement_id: str,
        masks: Masks = (),
        snapshot_version: int = 0,
        expected: RowsExpected = UNKNOWN,
    ) -> PendingReview:
        try:
            review = await in_thread(
                open_review,
                request=request,
                binding=binding,
                decision=decision,
                session_id=session.session_id,
                statement_id=statement_id,
                masks=masks,
                snapshot_version=snapshot_version,
                expected=expected,
            )
        except Refusal as refused:
            raise ReviewRefused(code=refused.code, reason=refused.reason, rule=decision.rule) from None
        return PendingReview(
            review_id=str(review.pk),
            url=review.absolute_url,
            expires_at=review.decide_by.timestamp(),
            rule=decision.rule,
            reason=decision.reason,
            statement_id=statement_id,
        )

    async def wait(self, review: PendingReview, gone: asyncio.Event) -> None:
        """Return when approved. Raises ReviewRefused on denial, expiry, withdrawal, or when the client went away."""
        changed = asyncio.Event()
        self._waiters[review.review_id].add(changed)
        try:
            await self._until_decided(review, changed, gone)
        finally:
            self._forget(review.review_id, changed)

    def review_changed(self, review_id: str) -> None:
        """Called for every `review.changed` message of the channel layer."""
        for event in self._waiters.get(review_id, ()):
            event.set()

    async def _until_decided(self, review: PendingReview, changed: asyncio.Event, gone: asyncio.Event) -> None:
        while True:
            status, reason = await in_thread(review_status, review_id=review.review_id)
            if status == "approved":
                return
            if status in _ENDINGS:
                code, sentence = _ENDINGS[status]
                raise ReviewRefused(code=code, reason=f"{sentence}: {reason}" if reason else sentence, rule=review.rule)
            if gone.is_set():
                await in_thread(withdraw_review, review_id=review.review_id)
                raise ReviewRefused(code="review-withdrawn", reason="the client left or cancelled", rule=review.rule)
            changed.clear()
            await first_of(changed, gone, timeout_s=_patience_s(review))

    def _forget(self, review_id: str, event: asyncio.Event) -> None:
        waiters = self._waiters[review_id]
        waiters.discard(event)
        if not waiters:
            del self._waiters[review_id]


def _patience_s(review: PendingReview) -> float:
    poll_s: int = settings.HOOPWEB_REVIEW_POLL_S
    return min(poll_s, max(0.05, review.expires_at - time.time()))


async def first_of(*events: asyncio.Event, timeout_s: float) -> None:
    """Return when any event is set or the time is over."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
