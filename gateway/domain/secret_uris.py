"""Secrets that live elsewhere, by URI: read where they are used, kept for a short while, never logged.

- `env:NAME` and `file:/path`, of the process that reads
- `vault://MOUNT/PATH#FIELD`: HashiCorp Vault (`gateway.domain.secret_vault`)
- `aws-secret://NAME#FIELD`: AWS Secrets Manager by boto3 and its own way to credentials and region; without a field,
  the whole text
- `gcp-secret://PROJECT/NAME[/VERSION][#FIELD]`: Google Secret Manager (`gateway.domain.secret_google`), `latest` where
  no version is named

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
from urllib.parse import unquote

from gateway.domain.secret_google import GoogleRefused, access_secret
from gateway.domain.secret_vault import VaultRefused, read_field

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
    _failed: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, uri: str) -> str:
        asked_at = time.monotonic()
        with self._lock:
            until, text = self._kept.get(uri, (0.0, ""))
            if time.monotonic() < until:
                return text
            self._kept.pop(uri, None)
            failed_at, problem = self._failed.get(uri, (0.0, ""))
            if failed_at > asked_at:  # while this one waited for its turn
                raise SecretUnavailable(problem)
            return self._read(uri)

    def _read(self, uri: str) -> str:
        try:
            text = read_secret(uri)
        except SecretUnavailable as unavailable:
            self._failed[uri] = (time.monotonic(), str(unavailable))
            raise
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
    if scheme == "gcp-secret" and (path.startswith("/") or path.count("/") not in {1, 2}):
        return "gcp-secret: expected gcp-secret://PROJECT/NAME, a version after it if need be"
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
    try:
        return read_field(mount=unquote(mount), path=unquote(inner), name=unquote(name), timeout_s=TIMEOUT_S)
    except VaultRefused as refused:
        raise SecretUnavailable(str(refused)) from None


def _google(rest: str) -> str:
    path, _, part = rest.removeprefix("//").partition("#")
    project, name, version, *_ = [*map(unquote, path.split("/")), "latest"]
    try:
        text = access_secret(project=project, name=name, version=version, timeout_s=TIMEOUT_S)
    except GoogleRefused as refused:
        raise SecretUnavailable(str(refused)) from None
    return _part_of(text, part)


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
    return _part_of(str(text), part)


def _part_of(text: str, part: str) -> str:
    """The whole text, or one field of the JSON object it is."""
    if not part:
        return text
    try:
        value = json.loads(text)[unquote(part)]
    except (ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, str):
        raise SecretUnavailable("the secret holds no such field")
    return value


_READERS: dict[str, Callable[[str], str]] = {
    "env": _env,
    "file": _file,
    "vault": _vault,
    "aws-secret": _aws,
    "gcp-secret": _google,
}
