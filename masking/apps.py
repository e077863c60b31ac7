from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings


class MaskingConfig(AppConfig):
    name = "masking"
    verbose_name = "Masking"

    def ready(self) -> None:
        """Give the engines the token key once; they never read settings themselves."""
        from masking import checks  # noqa: F401, PLC0415 - registers itself
        from masking.engines.hash import configure  # noqa: PLC0415

        configure(settings.HOOPWEB_TOKEN_KEY.encode())
