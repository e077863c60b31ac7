"""`manage.py check --deploy`: rules of technique `hash` need a key, or they mask whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

_SHORTEST_KEY = 32


@register(Tags.security, deploy=True)
def token_key_check(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    if len(settings.HOOPWEB_TOKEN_KEY) >= _SHORTEST_KEY:
        return []
    return [
        Warning(
            f"HOOPWEB_TOKEN_KEY has {len(settings.HOOPWEB_TOKEN_KEY)} characters, expected at least {_SHORTEST_KEY}",
            hint="without a key, rules of technique 'hash' mask values whole",
            id="masking.W001",
        )
    ]
