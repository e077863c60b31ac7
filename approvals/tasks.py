"""Background work: telling people and channels, ending what nobody decided. Tasks take ids and delegate."""

from __future__ import annotations

import logging
from smtplib import SMTPException

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
from approvals.emails import mail_digest, mail_emergency, mail_escalation, mail_reminders, mail_reviewers
from approvals.models import EmergencyAccess, Review

logger = logging.getLogger(__name__)


@shared_task(name="approvals.notify_reviewers", bind=True, max_retries=5)  # type: ignore[untyped-decorator]
def notify_reviewers(self: Task, review_id: str) -> None:
    """Tell channels and every reviewer who has not been told of the current text; again later when mail fails."""
    review = Review.objects.filter(pk=review_id, status=Review.Status.PENDING).first()
    if review is None:
        return
    tell_channels(review, Event.REVIEW_OPENED)
    try:
        told = mail_reviewers(review)
    except (SMTPException, OSError) as error:
        logger.warning("review mail failed: review=%s error=%s", review_id, type(error).__name__)
        # Not `exc=error`: an SMTP error quotes addresses and the server's words.
        raise self.retry(countdown=5 * 2**self.request.retries) from None
    logger.info("reviewers told: review=%s mails=%s", review_id, told)


@shared_task(name="approvals.notify_outcome")  # type: ignore[untyped-decorator]
def notify_outcome(review_id: str) -> None:
    """Tell channels how a review ended."""
    review = Review.objects.filter(pk=review_id).exclude(status=Review.Status.PENDING).first()
    if review is not None:
        tell_channels(review, Event.REVIEW_ENDED)


@shared_task(name=EMERGENCY_TASK, bind=True, max_retries=8)  # type: ignore[untyped-decorator]
def notify_emergency(self: Task, access_id: str, event: str) -> None:
    """Tell channels, reviewers and administrators of an emergency access; again later when mail fails."""
    access = EmergencyAccess.objects.filter(pk=access_id).first()
    if access is None:
        return
    tell_of_emergency(access, event)
    try:
        told = mail_emergency(access, Event(event))
    except (SMTPException, OSError) as error:
        logger.warning("emergency mail failed: emergency=%s error=%s", access_id, type(error).__name__)
        raise self.retry(countdown=5 * 2**self.request.retries) from None
    logger.info("told of an emergency: emergency=%s event=%s mails=%s", access_id, event, told)


@shared_task(name="approvals.watch_emergencies")  # type: ignore[untyped-decorator]
def watch_emergencies() -> None:
    """End what is over or was taken back, give back what never ran, and say what was not reviewed in time."""
    end_due_emergencies()
    end_revoked_emergencies()
    release_stale_uses()
    for access_id in take_overdue():
        notify_emergency.delay(str(access_id), Event.EMERGENCY_OVERDUE)


@shared_task(name="approvals.send_digests")  # type: ignore[untyped-decorator]
def send_digests() -> None:
    """One mail each to reviewers whose mails are held back."""
    for username in reviewers_with_digests():
        try:
            mail_digest(username)
        except (SMTPException, OSError) as error:
            logger.warning("digest failed: error=%s", type(error).__name__)


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


@shared_task(name="approvals.send_reminder")  # type: ignore[untyped-decorator]
def send_reminder(review_id: str) -> None:
    """Remind everyone who has not decided; once per review."""
    review = take_reminder(review_id)
    if review is not None:
        tell_channels(review, Event.REVIEW_REMINDER)
        _remind(review)


@shared_task(name="approvals.send_escalation", bind=True, max_retries=5)  # type: ignore[untyped-decorator]
def send_escalation(self: Task, review_id: str) -> None:
    """Tell the groups the policy names that nobody decided and they may; once per review, again when mail fails."""
    pending = Review.objects.filter(pk=review_id, status=Review.Status.PENDING)
    review = pending.first() if self.request.retries else take_escalation(review_id)
    if review is None:
        return
    tell_channels(review, Event.REVIEW_ESCALATED)
    try:
        told = mail_escalation(review)
    except (SMTPException, OSError) as error:
        logger.warning("escalation mail failed: review=%s error=%s", review_id, type(error).__name__)
        raise self.retry(countdown=5 * 2**self.request.retries) from None
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
    forget_old_slack_requests()
    forget_old_keys()


def _remind(review: Review) -> None:
    """Send the mails; when the server fails, the next round takes the review again: some people then hear twice."""
    try:
        told = mail_reminders(review)
    except (SMTPException, OSError) as error:
        Review.objects.filter(pk=review.pk).update(reminded_at=None)
        logger.warning("review mail failed: review=%s error=%s", review.pk, type(error).__name__)
    else:
        logger.info("told that time runs out: review=%s mails=%s", review.pk, told)
