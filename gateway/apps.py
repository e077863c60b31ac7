"""Where the data path tells the apps below it what they must ask of it."""

from __future__ import annotations

from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "gateway"
    verbose_name = "Data path"  # as the console's menu calls what is below

    def ready(self) -> None:
        from approvals.domain import hooks as approval_hooks  # noqa: PLC0415  models exist from here on
        from audit.domain import subject_kinds  # noqa: PLC0415
        from gateway.api.reanalysis import reanalyse  # noqa: PLC0415
        from gateway.domain.access_reports import register_reports  # noqa: PLC0415
        from gateway.domain.connections import declared_subjects, load_access_rules  # noqa: PLC0415
        from gateway.domain.deidentification import register_report  # noqa: PLC0415
        from gateway.domain.requesters import (  # noqa: PLC0415
            accounts_of,
            agents_of,
            purpose_of,
            requester_enabled,
        )
        from gateway.domain.version import bump_version  # noqa: PLC0415
        from masking.domain import hooks as masking_hooks  # noqa: PLC0415

        register_reports()
        register_report()
        masking_hooks.register(bump_version)
        subject_kinds.register(declared_subjects)
        approval_hooks.register(
            reanalyse=reanalyse,
            requester_enabled=requester_enabled,
            rules_changed=bump_version,
            agents_of=agents_of,
            access_rules=load_access_rules,
            purpose_of=purpose_of,
            accounts_of=accounts_of,
        )
