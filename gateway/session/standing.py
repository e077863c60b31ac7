"""Whether a session that was opened in good standing still is."""

from __future__ import annotations

import time

from gateway.domain.snapshot import Snapshot
from gateway.session.context import SessionContext


def may_go_on(context: SessionContext, snapshot: Snapshot) -> bool:
    """False once the principal is disabled, revoked, gone or expired, or its connection is."""
    principal = context.principal
    connection = snapshot.connections.get(context.connection.name)
    if connection is None or not connection.enabled or principal.token_id in snapshot.revoked_tokens:
        return False
    if principal.expires_at is not None and principal.expires_at <= time.time():
        return False
    known = snapshot.agents.get(principal.subject) or snapshot.people.get(principal.subject)
    if known is None:
        # A workload of a trusted external issuer has no registry entry; its token and groups are its standing.
        return principal.auth_method == "oidc-external"
    issued_at = principal.issued_at or context.opened_at
    # Groups that were taken away end the session; it would go on deciding by them otherwise.
    return known.enabled and known.revoked_before <= issued_at and principal.groups <= known.groups
