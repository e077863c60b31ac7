"""HashiCorp Vault: the key-value engine version 2, read with a token or after an AppRole login.

VAULT_ADDR and VAULT_NAMESPACE as Vault's own client has them. The token is VAULT_TOKEN, or what the file
VAULT_TOKEN_FILE holds (an agent's sink); else VAULT_ROLE_ID and VAULT_SECRET_ID (or …_FILE) log in at
`auth/<VAULT_APPROLE_MOUNT, approle>/login`, and the token is kept until shortly before its lease ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from gateway.domain.addresses import is_loopback
from gateway.domain.secret_http import Asking, asking

KEPT_SHARE = 0.8  # of a lease
FORBIDDEN = 403


class VaultRefused(Exception):
    """A sentence about what did not work; never what was sent or answered."""


_tokens: dict[tuple[str, str, str, str], tuple[float, str]] = {}  # of logins: until when, and the token
_lock = threading.Lock()


def read_field(*, mount: str, path: str, name: str, timeout_s: float) -> str:
    """The text of one field. Raises VaultRefused."""
    address = _address()
    url = f"{address}/v1/{quote(mount)}/data/{quote(path)}"
    try:
        with asking(timeout_s=timeout_s) as vault:
            token, by_login = _token(vault, address)
            answer = vault.get(url, headers=_headers() | {"X-Vault-Token": token})
            if answer.status == FORBIDDEN and by_login:
                # The token may have been revoked before its lease was over: once more, with a new one.
                token, _ = _token(vault, address, anew=True)
                answer = vault.get(url, headers=_headers() | {"X-Vault-Token": token})
    except httpx.HTTPError as error:
        raise VaultRefused(f"vault does not answer: {type(error).__name__}") from None
    if answer.status != httpx.codes.OK:
        raise VaultRefused(f"vault answered {answer.status}, expected 200")
    try:
        value = answer.json()["data"]["data"][name]
    except (ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, str):
        raise VaultRefused("vault answered without such a field")
    return value


def _token(vault: Asking, address: str, *, anew: bool = False) -> tuple[str, bool]:
    """A token, and whether a login gave it."""
    if os.environ.get("VAULT_TOKEN") or os.environ.get("VAULT_TOKEN_FILE"):
        return _given("VAULT_TOKEN"), False
    if not os.environ.get("VAULT_ROLE_ID") and not os.environ.get("VAULT_ROLE_ID_FILE"):
        raise VaultRefused("neither VAULT_TOKEN nor VAULT_ROLE_ID is set")
    mount = os.environ.get("VAULT_APPROLE_MOUNT") or "approle"
    role_id, secret_id = _given("VAULT_ROLE_ID"), _given("VAULT_SECRET_ID")
    key = (address, os.environ.get("VAULT_NAMESPACE", ""), mount, role_id)
    with _lock:
        until, token = _tokens.get(key, (0.0, ""))
        if anew or time.monotonic() >= until:
            token, lease_s = _login(vault, address, mount, {"role_id": role_id, "secret_id": secret_id})
            _tokens[key] = (time.monotonic() + lease_s * KEPT_SHARE, token)
    return token, True


def _login(vault: Asking, address: str, mount: str, body: Mapping[str, str]) -> tuple[str, float]:
    answer = vault.post(f"{address}/v1/auth/{quote(mount)}/login", json=dict(body), headers=_headers())
    if answer.status != httpx.codes.OK:
        raise VaultRefused(f"vault refused the login: {answer.status}, expected 200")
    try:
        auth: dict[str, Any] = answer.json()["auth"]
        token, lease_s = auth["client_token"], float(auth["lease_duration"])
    except (ValueError, KeyError, TypeError):
        raise VaultRefused("vault answered the login without a token") from None
    if not isinstance(token, str) or not token:
        raise VaultRefused("vault answered the login without a token")
    return token, lease_s


def _headers() -> dict[str, str]:
    namespace = os.environ.get("VAULT_NAMESPACE")
    return {"X-Vault-Request": "true"} | ({"X-Vault-Namespace": namespace} if namespace else {})


def _given(name: str) -> str:
    """A variable's value, or what the file of `<name>_FILE` holds."""
    pointer = os.environ.get(f"{name}_FILE", "")
    try:
        text = Path(pointer).read_text(encoding="utf-8").strip() if pointer else os.environ.get(name, "")
    except (OSError, UnicodeDecodeError) as error:
        raise VaultRefused(f"the file of {name} cannot be read: {type(error).__name__}") from None
    if not text:
        raise VaultRefused(f"{name} is not set")
    return text


def _address() -> str:
    address = os.environ.get("VAULT_ADDR", "").rstrip("/")
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise VaultRefused("VAULT_ADDR is not https, which is for loopback hosts only")
    return address
