"""Whether a session that was opened in good standing still is."""

from __future__ import annotations

from gateway.domain.identity import revalidated
from gateway.domain.snapshot import Snapshot
from gateway.session.context import SessionContext
from gateway.session.services import AuthenticationFailed


def may_go_on(context: SessionContext, snapshot: Snapshot) -> bool:
    """False once the principal is disabled, revoked, gone or expired, has lost a group, or its connection is off."""
    connection = snapshot.connections.get(context.connection.name)
    if connection is None or not connection.enabled:
        return False
    try:
        now = revalidated(context.principal, rules=snapshot)
    except AuthenticationFailed:
        return False
    # A group that was taken away ends the session; it would go on deciding by it otherwise.
    return context.principal.groups <= now.groups
