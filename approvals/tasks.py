"""Background work: telling reviewers, ending what nobody decided. Tasks take ids and delegate."""

from __future__ import annotations

import logging
from smtplib import SMTPException

from celery import Task, shared_task

from approvals.domain.grant import release_stale_claims
from approvals.domain.reminders import reviews_to_remind
from approvals.domain.review import expire_due_reviews
from approvals.emails import mail_reviewers, remind
from approvals.models import Review

logger = logging.getLogger(__name__)


@shared_task(name="approvals.notify_reviewers", bind=True, max_retries=5)  # type: ignore[untyped-decorator]
def notify_reviewers(self: Task, review_id: str) -> None:
    """Mail every reviewer who has not been told about the current text; again later when mail fails."""
    review = Review.objects.filter(pk=review_id, status=Review.Status.PENDING).first()
    if review is None:
        return
    try:
        told = mail_reviewers(review)
    except (SMTPException, OSError) as error:
        logger.warning("review mail failed: review=%s error=%s", review_id, type(error).__name__)
        # Not `exc=error`: an SMTP error quotes addresses and the server's words.
        raise self.retry(countdown=5 * 2**self.request.retries) from None
    logger.info("reviewers told: review=%s mails=%s", review_id, told)


@shared_task(name="approvals.release_stale_claims")  # type: ignore[untyped-decorator]
def release_unconfirmed() -> None:
    released = release_stale_claims()
    if released:
        logger.warning("claims of approvals given back unconfirmed: count=%s", released)


@shared_task(name="approvals.remind_reviewers")  # type: ignore[untyped-decorator]
def remind_reviewers() -> None:
    for review_id in reviews_to_remind():
        send_reminder.delay(str(review_id))


@shared_task(name="approvals.send_reminder", bind=True, max_retries=3)  # type: ignore[untyped-decorator]
def send_reminder(self: Task, review_id: str) -> None:
    """Remind everyone who has not decided, and tell whom it escalates to; once per review."""
    try:
        told = remind(review_id)
    except (SMTPException, OSError) as error:
        logger.warning("reminder failed: review=%s error=%s", review_id, type(error).__name__)
        raise self.retry(countdown=5 * 2**self.request.retries) from None
    if told:
        logger.info("reviewers reminded: review=%s mails=%s", review_id, told)


@shared_task(name="approvals.expire_reviews")  # type: ignore[untyped-decorator]
def expire_reviews() -> None:
    ended = expire_due_reviews()
    if ended:
        logger.info("reviews expired: count=%s", ended)
