"""What a configuration row says, for the record: before and after a change in the console, without secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Model

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from gateway.domain.version import bump_version

# Hashes and sealed boxes say nothing to an auditor, and do not belong into a log that is kept for years.
SECRET_FIELDS = frozenset(
    {
        "password",
        "client_secret",
        "client_secret_hash",
        "sealed",
        "digest",
        "secret_hash",
        "key",
        "sealed_secret",
        "secret_digest",
    }
)
NOISE_FIELDS = frozenset({"created_at", "updated_at", "last_token_at", "last_login", "changed_at"})
# How far a delivery is and how it goes: state, not configuration.
STATE_FIELDS = frozenset({"cursor", "delivered_at", "failures", "failing_since", "next_try_at", "problem", "batch"})


def state_of(row: Model) -> dict[str, Json]:
    """Field → value, related rows by their names. One query per many-to-many field."""
    state: dict[str, Json] = {}
    for field in row._meta.concrete_fields:
        if field.name not in SECRET_FIELDS | NOISE_FIELDS | STATE_FIELDS:
            state[field.name] = plain(_value(row, field))
    for field in row._meta.many_to_many:
        state[field.name] = sorted(str(related) for related in getattr(row, field.name).all())
    return state


def record_change(*, row: Model, before: dict[str, Json] | None, after: dict[str, Json] | None, subject: str) -> None:
    """Raise the version and write `config.changed`; the last thing in the transaction that made the change."""
    version = bump_version()
    body: dict[str, Json] = {
        "subject": subject,
        "version": version,
        "changes": [{"section": row._meta.label_lower, "name": str(row), "before": before, "after": after}],
    }
    append_entries([Entry(kind="config.changed", body=body)])


def _value(row: Model, field: Any) -> Any:
    value = getattr(row, field.name)
    return str(value) if isinstance(value, Model) else value


def plain(value: Any) -> Any:
    """Values as the log's canonical JSON holds them: text for what JSON has no type for, and for fractions."""
    match value:
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case None | bool() | int() | str():
            return value
        case datetime():
            return value.isoformat()
    return str(value)
