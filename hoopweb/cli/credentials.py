"""Who is signed in where: one private file per profile below `$XDG_CONFIG_HOME/hoopweb` (XDG Base Directory 0.8).

A file holds the server's URL and a short-lived token. A client secret is never copied into it: the path of the file it
came from is, so that an expired token can be replaced. `HOOPWEB_TOKEN` stands in for the stored token, for CI jobs.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from hoopweb.cli.failures import CommandFailed, Exit

DEFAULT_SERVER = "http://127.0.0.1:8000"
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_EARLY_S = 30  # a token that ends while it travels is no use
_NEVER = 0.0


@dataclass(frozen=True)
class Login:
    """`expires_at` in Unix time, 0 where unknown: the server then says when it is over."""

    server: str
    token: str = field(default="", repr=False)
    expires_at: float = _NEVER
    client_id: str = ""
    secret_file: str = ""

    @property
    def is_over(self) -> bool:
        return not self.token or (self.expires_at != _NEVER and time.time() > self.expires_at - _EARLY_S)

    @property
    def is_renewable(self) -> bool:
        return bool(self.client_id and self.secret_file)


def checked_server(url: str) -> str:
    """`url` without a trailing slash. A token leaves this machine inside TLS alone."""
    parts = _parts(url)
    if parts is None or parts.scheme not in {"http", "https"} or parts.username or parts.query or parts.fragment:
        raise CommandFailed("the server's URL is not understood, expected https://HOST[:PORT]", status=Exit.USAGE)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise CommandFailed("a token is sent over https alone, expected an https:// server", status=Exit.USAGE)
    return url.rstrip("/")


def _parts(url: str) -> SplitResult | None:
    """None where there is no host, or a port that is none."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def path_of(profile: str, environment: Mapping[str, str]) -> Path:
    if not _PROFILE.fullmatch(profile):
        raise CommandFailed("a profile's name has letters, digits, dots, dashes and underscores", status=Exit.USAGE)
    configured = environment.get("XDG_CONFIG_HOME", "")
    # The specification wants relative paths ignored.
    base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".config"
    return base / "hoopweb" / f"{profile}.json"


def load(profile: str, environment: Mapping[str, str]) -> Login:
    """The login of `profile`. Raises CommandFailed without one, and where others could read the token."""
    kept = _read(path_of(profile, environment))
    if given := environment.get("HOOPWEB_TOKEN"):
        named = environment.get("HOOPWEB_SERVER") or (kept.server if kept else DEFAULT_SERVER)
        return Login(server=checked_server(named), token=given)
    if kept is None:
        raise CommandFailed("not signed in: run hoopweb login", status=Exit.NOT_SIGNED_IN)
    return kept


def save(login: Login, *, profile: str, environment: Mapping[str, str]) -> Path:
    """Write the file whole or not at all, readable by its owner alone from its first byte."""
    path = path_of(profile, environment)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".login-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(login), file)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path


def forget(profile: str, environment: Mapping[str, str]) -> bool:
    """Return whether there was a login to forget."""
    path = path_of(profile, environment)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def _read(path: Path) -> Login | None:
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise CommandFailed(f"others may read {path}, expected mode 0600", status=Exit.NOT_SIGNED_IN)
            content = json.load(file)
        login = Login(**content)
        checked_server(login.server)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, OSError):
        raise CommandFailed(f"{path} cannot be read: run hoopweb login", status=Exit.NOT_SIGNED_IN) from None
    return login
