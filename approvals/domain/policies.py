"""Changing policies: every change is a new version, kept for good, with its author; nothing else writes a policy.

The caller bumps the rules' version in the same transaction (`hooks.rules_changed`, or `apply` by itself).
"""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction

from approvals.models import Policy, PolicyVersion

# What a policy means; the rest (ids, times) is bookkeeping.
FIELDS = (
    "name", "description", "connections", "when", "action", "reviewers", "reviewers_needed", "quorum", "separation",
    "skip_groups", "decide_within_s", "execute_within_s", "grants", "grant_for_s", "max_uses", "max_rows", "grace_s",
    "escalate_to", "escalate_before_s", "step_up_s", "enabled",
)  # fmt: skip


def policy_document(policy: Policy) -> dict[str, Any]:
    return {field: getattr(policy, field) for field in FIELDS}


def save_policy(*, policy: Policy, author: str) -> PolicyVersion | None:
    """Store a validated policy and keep it as a version by `author`; None when it says what it said before."""
    with transaction.atomic():
        before = Policy.objects.filter(pk=policy.pk).values_list("name", flat=True).first()
        policy.save()
        if before not in (None, policy.name):
            _keep(str(before), None, author)  # renamed: the old name ends here
        return _keep(policy.name, policy_document(policy), author)


def delete_policy(*, policy: Policy, author: str) -> None:
    """Remove a policy; its versions stay, and say when it ended and by whom."""
    with transaction.atomic():
        _keep(policy.name, None, author)
        policy.delete()


def _keep(name: str, document: dict[str, Any] | None, author: str) -> PolicyVersion | None:
    with connection.cursor() as cursor:
        # Two writers of one policy would otherwise take the same number.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"policy:{name}"])
    latest = PolicyVersion.objects.filter(policy=name).order_by("-number").first()
    if latest is not None and latest.document == document:
        return None
    number = latest.number + 1 if latest else 1
    return PolicyVersion.objects.create(policy=name, number=number, document=document, author=author)
