"""Secrets that live elsewhere, by URI: read where they are used, kept for a short while, never logged.

- `env:NAME` and `file:/path`, of the process that reads
- `vault://MOUNT/PATH#FIELD`: HashiCorp Vault, key-value engine version 2 (its API documentation, "Read secret
  version"), at VAULT_ADDR with VAULT_TOKEN or the file VAULT_TOKEN_FILE names, and VAULT_NAMESPACE
- `aws-secret://NAME#FIELD`: AWS Secrets Manager by boto3 and its own way to credentials and region; without a field,
  the whole text

A manager that does not answer gives no secret: what was read longer ago than `TTL_S` is not used.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx

from gateway.models import is_loopback

TTL_S = 60.0
TIMEOUT_S = 5.0
MAX_CHARS = 64 * 1024


class SecretUnavailable(RuntimeError):
    """The secret could not be read. The sentence names the place, never what is there."""


@dataclass(slots=True)
class SecretCache:
    """Secrets by URI for `ttl_s`. One at a time per process: an outage is asked about once, not by every session."""

    ttl_s: float = TTL_S
    _kept: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, uri: str) -> str:
        with self._lock:
            until, text = self._kept.get(uri, (0.0, ""))
            if time.monotonic() < until:
                return text
            self._kept.pop(uri, None)
            text = read_secret(uri)
            self._kept[uri] = (time.monotonic() + self.ttl_s, text)
            return text


def read_secret(uri: str) -> str:
    """The secret's text. Blocks. Raises SecretUnavailable."""
    if problem := uri_problem(uri):
        raise SecretUnavailable(problem)
    scheme, _, rest = uri.partition(":")
    text = _READERS[scheme](rest)
    if not text or len(text) > MAX_CHARS:
        raise SecretUnavailable(f"the secret at {scheme} is empty or longer than {MAX_CHARS} characters")
    return text


def uri_problem(uri: str) -> str:
    """What is wrong with the form of a URI, or nothing."""
    scheme, _, rest = uri.partition(":")
    if scheme not in _READERS:
        return f"expected a URI of {', '.join(f'{known}:' for known in _READERS)}"
    path, _, name = rest.removeprefix("//").partition("#")
    if not path or len(uri) > 1000 or any(part in {"", ".", ".."} for part in path.removeprefix("/").split("/")):
        return f"expected a name after {scheme}:"
    if scheme == "file" and not rest.startswith("/"):
        return "file: expected an absolute path"
    if scheme == "vault" and (path.startswith("/") or "/" not in path or not name):
        return "vault: expected vault://MOUNT/PATH#FIELD"
    return ""


def _env(name: str) -> str:
    text = os.environ.get(name, "")
    if not text:
        raise SecretUnavailable(f"the variable {name} is not set")
    return text


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretUnavailable(f"the file cannot be read: {type(error).__name__}") from None


def _vault(rest: str) -> str:
    path, _, name = rest.removeprefix("//").partition("#")
    mount, _, inner = path.partition("/")
    address = _env("VAULT_ADDR").rstrip("/")
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise SecretUnavailable("VAULT_ADDR is not https, which is for loopback hosts only")
    token_file = os.environ.get("VAULT_TOKEN_FILE", "")
    headers = {"X-Vault-Token": _file(token_file) if token_file else _env("VAULT_TOKEN"), "X-Vault-Request": "true"}
    if namespace := os.environ.get("VAULT_NAMESPACE"):
        headers["X-Vault-Namespace"] = namespace
    url = f"{address}/v1/{quote(unquote(mount))}/data/{quote(unquote(inner))}"
    try:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
            answer = client.get(url, headers=headers)
    except httpx.HTTPError as error:
        raise SecretUnavailable(f"vault does not answer: {type(error).__name__}") from None
    if answer.status_code != 200:
        raise SecretUnavailable(f"vault answered {answer.status_code}, expected 200")
    try:
        return str(_member(answer.json()["data"]["data"], unquote(name)))
    except (ValueError, KeyError, TypeError):
        raise SecretUnavailable("vault answered without such a field") from None


def _aws(rest: str) -> str:
    # Imported where it is used: it takes longer to load than all of ours, and most installations never do.
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    name, _, part = rest.removeprefix("//").partition("#")
    try:
        config = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"max_attempts": 2})
        client = boto3.client("secretsmanager", config=config)
        text = client.get_secret_value(SecretId=unquote(name)).get("SecretString", "")
    except (BotoCoreError, ClientError) as error:
        raise SecretUnavailable(f"aws secrets manager refused or does not answer: {type(error).__name__}") from None
    if not part:
        return str(text)
    try:
        return str(_member(json.loads(text), unquote(part)))
    except (ValueError, KeyError, TypeError):
        raise SecretUnavailable("the secret holds no such field") from None


def _member(values: dict[str, object], name: str) -> object:
    value = values[name]
    if not isinstance(value, str):
        raise TypeError
    return value


_READERS: dict[str, Callable[[str], str]] = {"env": _env, "file": _file, "vault": _vault, "aws-secret": _aws}
