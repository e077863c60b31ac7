"""What a client hears last, by why its session ends: the codes a PostgreSQL server would give."""

from __future__ import annotations

from gateway.protocols.postgres import server

_FAREWELLS = {
    "killed": ("57P01", "terminating connection due to administrator command"),
    "drained": ("57P01", "terminating connection: the gateway is shutting down, connect again"),
    "token-expired": ("57P01", "terminating connection: the token expired"),
    "rules-changed": ("57P01", "terminating connection: the rules changed, and no longer allow what was running"),
    "idle": ("57P05", "terminating connection due to idle-session timeout"),
    "upstream-lost": ("08006", "the connection to the database was lost"),
    "meaning-changed": ("42501", "the session's encoding or quoting rules were changed, which is not allowed here"),
    "protocol-violation": ("08P01", "the client broke the protocol"),
    "internal-error": ("XX000", "internal error of the gateway"),
}


def farewell(reason: str, *, killed: bool) -> bytes | None:
    """The last message; None when the client left by itself and hears nothing. `killed`: `reason` is a person's."""
    said = _FAREWELLS.get(reason)
    if said is None and killed:
        said = ("57P01", f"terminating connection: {reason}")
    if said is None:
        return None
    return server.error(sqlstate=said[0], message=said[1], severity="FATAL")
