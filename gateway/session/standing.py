"""Whether a session that was opened in good standing still is."""

from __future__ import annotations

from gateway.domain.identity import revalidated
from gateway.domain.snapshot import Snapshot
from gateway.session.context import SessionContext
from gateway.session.services import AuthenticationFailed

MAX_REASON_CHARS = 120  # the record of a session keeps 128


def why_not_on(context: SessionContext, snapshot: Snapshot) -> str:
    """Why the session must end, for the record; empty while it may go on.

    The principal is disabled, revoked, gone or expired, has lost a group, or its connection is off. Groups are named,
    nobody else is.
    """
    connection = snapshot.connections.get(context.connection.name)
    if connection is None or not connection.enabled:
        return "the connection was removed or switched off"
    try:
        now = revalidated(context.principal, rules=snapshot)
    except AuthenticationFailed as failed:
        return str(failed)
    # A group that was taken away ends the session; it would go on deciding by it otherwise.
    lost = sorted(context.principal.groups - now.groups)
    return f"the group {lost[0]} was taken away"[:MAX_REASON_CHARS] if lost else ""
