"""Background work: telling people and channels, ending what nobody decided. Tasks take ids and delegate."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from celery import Task, shared_task

from approvals.channels.send import attempt
from approvals.domain.announce import EMERGENCY_TASK
from approvals.domain.deliveries import DELIVER_TASK, due_deliveries, forget_old_deliveries
from approvals.domain.emergency import end_due_emergencies, end_revoked_emergencies, take_overdue
from approvals.domain.emergency_use import release_stale_uses
from approvals.domain.events import Event
from approvals.domain.grant import release_stale_claims
from approvals.domain.idempotency import forget_old_keys
from approvals.domain.mail_budget import forget_old_mails, reviewers_with_digests
from approvals.domain.notices import tell_channels, tell_of_emergency
from approvals.domain.reminders import reviews_to_escalate, reviews_to_remind, take_escalation, take_reminder
from approvals.domain.review import expire_due_reviews
from approvals.domain.slack_requests import forget_old_slack_requests
from approvals.emails import (
    OF_ONE_MAIL,
    OF_THE_SERVER,
    MailFailed,
    mail_digest,
    mail_emergency,
    mail_escalation,
    mail_reminders,
    mail_reviewers,
)
from approvals.models import EmergencyAccess, Review
from audit.domain.leap import may_have_leapt

logger = logging.getLogger(__name__)

# Mails are tried again for as long as the review waits, an emergency's for some hours. Before a worker is killed over
# a task (CELERY_TASK_TIME_LIMIT), which would be over then, it puts off who has no mail yet.
_PAUSE_FIRST_S, _PAUSE_MOST_S = 5, 300
_MAILING: dict[str, Any] = {"bind": True, "max_retries": None, "soft_time_limit": 240}
_EMERGENCY_MAILING = _MAILING | {"max_retries": 50}


@shared_task(name="approvals.notify_reviewers", **_MAILING)  # type: ignore[untyped-decorator]
def notify_reviewers(self: Task, review_id: str) -> None:
    """Tell channels and every reviewer who has not been told of the current text; again later when mail fails."""
    review = _pending(review_id)
    if review is None:
        return
    tell_channels(review, Event.REVIEW_OPENED)
    try:
        told = mail_reviewers(review)
    except MailFailed as failed:
        logger.warning("review mail failed: review=%s error=%s unsent=%s", review_id, failed, len(failed.unsent))
        _again(self, review_id)
    logger.info("reviewers told: review=%s mails=%s", review_id, told)


@shared_task(name="approvals.notify_outcome")  # type: ignore[untyped-decorator]
def notify_outcome(review_id: str) -> None:
    """Tell channels how a review ended."""
    review = Review.objects.filter(pk=review_id).exclude(status=Review.Status.PENDING).first()
    if review is not None:
        tell_channels(review, Event.REVIEW_ENDED)


@shared_task(name=EMERGENCY_TASK, **_EMERGENCY_MAILING)  # type: ignore[untyped-decorator]
def notify_emergency(self: Task, access_id: str, event: str, only: list[Any] | None = None) -> None:
    """Tell channels, reviewers and administrators of an emergency access; again later when mail fails."""
    access = EmergencyAccess.objects.filter(pk=access_id).first()
    if access is None:
        return
    tell_of_emergency(access, event)
    try:
        told = mail_emergency(access, Event(event), only=only)
    except MailFailed as failed:
        logger.warning("emergency mail failed: emergency=%s error=%s", access_id, failed)
        _again(self, access_id, event, only=failed.unsent)
    logger.info("told of an emergency: emergency=%s event=%s mails=%s", access_id, event, told)


@shared_task(name="approvals.watch_emergencies")  # type: ignore[untyped-decorator]
def watch_emergencies() -> None:
    """End what is over or was taken back, give back what never ran, and say what was not reviewed in time."""
    end_due_emergencies()
    end_revoked_emergencies()
    release_stale_uses()
    for access_id in take_overdue():
        notify_emergency.delay(str(access_id), Event.EMERGENCY_OVERDUE)


@shared_task(name="approvals.send_digests", soft_time_limit=_MAILING["soft_time_limit"])  # type: ignore[untyped-decorator]
def send_digests() -> None:
    """One mail each to reviewers whose mails are held back; what failed is held for the next round."""
    for username in reviewers_with_digests():
        try:
            mail_digest(username)
        except OF_ONE_MAIL as error:
            logger.warning("digest failed: error=%s", type(error).__name__)
        except OF_THE_SERVER as error:
            logger.warning("digests failed: error=%s", type(error).__name__)
            return


@shared_task(name=DELIVER_TASK)  # type: ignore[untyped-decorator]
def deliver(delivery_id: str) -> None:
    attempt(delivery_id)


@shared_task(name="approvals.deliver_due")  # type: ignore[untyped-decorator]
def deliver_due() -> None:
    """Make every attempt that is due: also of what no worker was told of, or whose worker died."""
    for delivery_id in due_deliveries():
        deliver.delay(str(delivery_id))


@shared_task(name="approvals.release_stale_claims")  # type: ignore[untyped-decorator]
def release_unconfirmed() -> None:
    released = release_stale_claims()
    if released:
        logger.warning("claims of approvals given back unconfirmed: count=%s", released)


@shared_task(name="approvals.remind_reviewers")  # type: ignore[untyped-decorator]
def remind_reviewers() -> None:
    """Start every reminder and escalation that is due."""
    for review_id in reviews_to_remind():
        send_reminder.delay(str(review_id))
    for review_id in reviews_to_escalate():
        send_escalation.delay(str(review_id))


@shared_task(name="approvals.send_reminder", **_MAILING)  # type: ignore[untyped-decorator]
def send_reminder(self: Task, review_id: str, only: list[Any] | None = None) -> None:
    """Remind everyone who has not decided; once per review, again whose mail fails."""
    review = _pending(review_id) if self.request.retries else take_reminder(review_id)
    if review is None:
        return
    tell_channels(review, Event.REVIEW_REMINDER)
    try:
        told = mail_reminders(review, only=only)
    except MailFailed as failed:
        logger.warning("reminder mail failed: review=%s error=%s", review_id, failed)
        _again(self, review_id, only=failed.unsent)
    logger.info("told that time runs out: review=%s mails=%s", review_id, told)


@shared_task(name="approvals.send_escalation", **_MAILING)  # type: ignore[untyped-decorator]
def send_escalation(self: Task, review_id: str, only: list[Any] | None = None) -> None:
    """Tell the groups the policy names that nobody decided and they may; once per review, again whose mail fails."""
    review = _pending(review_id) if self.request.retries else take_escalation(review_id)
    if review is None:
        return
    tell_channels(review, Event.REVIEW_ESCALATED)
    try:
        told = mail_escalation(review, only=only)
    except MailFailed as failed:
        logger.warning("escalation mail failed: review=%s error=%s", review_id, failed)
        _again(self, review_id, only=failed.unsent)
    logger.info("escalated: review=%s mails=%s", review_id, told)


@shared_task(name="approvals.expire_reviews")  # type: ignore[untyped-decorator]
def expire_reviews() -> None:
    ended = expire_due_reviews()
    if ended:
        logger.info("reviews expired: count=%s", ended)


@shared_task(name="approvals.forget_old_messages")  # type: ignore[untyped-decorator]
def forget_old_messages() -> None:
    """What was delivered long ago, and what only counted mails and repetitions."""
    forget_old_deliveries()
    forget_old_mails()
    if not may_have_leapt():  # else they would be good again once the clock is right
        forget_old_slack_requests()
        forget_old_keys()


def _pending(review_id: str) -> Review | None:
    return Review.objects.filter(pk=review_id, status=Review.Status.PENDING).first()


def _again(task: Task, *args: Any, **kwargs: Any) -> NoReturn:
    """Do the task again, after a pause that grows."""
    pause_s = min(_PAUSE_FIRST_S * 2 ** min(task.request.retries, 10), _PAUSE_MOST_S)
    raise task.retry(args=args, kwargs=kwargs, countdown=pause_s) from None
