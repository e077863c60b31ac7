"""What people may do in the control plane, from their groups. Agents have no role: they never decide or configure."""

from __future__ import annotations

from typing import Any

from approvals.domain.request import Principal
from approvals.domain.role_names import ADMINISTRATORS, AGENT_OWNERS, AUDITORS, POLICY_AUTHORS, ROLE_GROUPS

__all__ = [
    "ADMINISTRATORS",
    "AGENT_OWNERS",
    "AUDITORS",
    "POLICY_AUTHORS",
    "ROLE_GROUPS",
    "is_administrator",
    "may_read_everything",
]


def is_administrator(user: Any, principal: Principal) -> bool:
    """A local account that is a superuser or of the administrators' group, not being acted for, not an auditor."""
    if principal.kind != "person" or principal.actor is not None or AUDITORS in principal.groups:
        return False
    return bool(getattr(user, "is_superuser", False)) or (
        bool(getattr(user, "is_staff", False)) and ADMINISTRATORS in principal.groups
    )


def may_read_everything(user: Any, principal: Principal) -> bool:
    """Administrators and auditors see every session; everybody else sees their own."""
    is_auditor = principal.kind == "person" and principal.actor is None and AUDITORS in principal.groups
    return is_auditor or is_administrator(user, principal)
