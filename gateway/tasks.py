"""Housekeeping of the gateway's short-lived rows."""

from __future__ import annotations

from celery import shared_task

from audit.domain.leap import may_have_leapt
from gateway.domain import client_assertion, revocation, statements, tickets


@shared_task(name="gateway.forget_old_statements")  # type: ignore[untyped-decorator]
def forget_old_statements() -> None:
    statements.forget_old_statements()


@shared_task(name="gateway.forget_old_tickets")  # type: ignore[untyped-decorator]
def forget_old_tickets() -> None:
    tickets.forget_old_tickets()
    if not may_have_leapt():  # else they would be good again once the clock is right
        client_assertion.forget_used_assertions()
        revocation.forget_expired_revocations()
