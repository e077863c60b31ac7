"""The settings the product reads from its environment: what deployment files may name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.stack import PROJECT

_PATHS = {"TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE", "CHANNEL_CA_FILE"}  # paths by nature


def known_settings() -> set[str]:
    """Names without HOOPWEB_ and without _FILE."""
    text = (PROJECT / "hoopweb" / "settings.py").read_text(encoding="utf-8")
    return set(re.findall(r"env_\w+\(\s*\"([A-Z_]+)\"", text))


def ours(names: Iterable[str]) -> set[str]:
    """The settings these variables (without HOOPWEB_) speak of: `KEY_FILE` is the file of `KEY`."""
    return {name if name in _PATHS else name.removesuffix("_FILE") for name in names}
