"""Every policy that was there before versions were kept becomes its own first version, by nobody known."""

from __future__ import annotations

from typing import Any

from django.db import migrations

# As of this migration; approvals.domain.policies.FIELDS may grow.
FIELDS = (
    "name", "description", "connections", "when", "action", "reviewers", "reviewers_needed", "quorum", "separation",
    "skip_groups", "decide_within_s", "execute_within_s", "grants", "grant_for_s", "max_uses", "max_rows", "grace_s",
    "enabled",
)  # fmt: skip


def keep_first_versions(apps: Any, schema_editor: Any) -> None:
    versions = apps.get_model("approvals", "PolicyVersion").objects
    for policy in apps.get_model("approvals", "Policy").objects.all():
        document = {field: getattr(policy, field) for field in FIELDS}
        versions.create(policy=policy.name, number=1, document=document)


class Migration(migrations.Migration):
    dependencies = [("approvals", "0002_wider_grants")]
    operations = [migrations.RunPython(keep_first_versions, migrations.RunPython.noop)]
