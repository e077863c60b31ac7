"""What people may do in the control plane, from their groups. Agents have no role: they never decide or configure."""

from __future__ import annotations

from typing import Any

from approvals.domain.request import Principal

ADMINISTRATORS = "administrators"
POLICY_AUTHORS = "policy-authors"
AUDITORS = "auditors"
ROLE_GROUPS = (ADMINISTRATORS, POLICY_AUTHORS, AUDITORS)


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
