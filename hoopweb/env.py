"""The only reader of the environment. Every helper fails loudly, naming the variable and what was expected."""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "HOOPWEB_"
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


class EnvironmentProblem(ValueError):
    """A variable is missing or malformed; the message is one clear sentence for the operator."""


def env_str(name: str, default: str = "") -> str:
    return os.environ.get(PREFIX + name, default)


def env_bool(name: str, *, default: bool) -> bool:
    raw = os.environ.get(PREFIX + name)
    if raw is None:
        return default
    if raw.lower() in _TRUE:
        return True
    if raw.lower() in _FALSE:
        return False
    raise EnvironmentProblem(f"{PREFIX}{name} is {raw!r}, expected one of 1, true, yes, on, 0, false, no, off")


def env_int(name: str, default: int, *, low: int = 0, high: int = 2**31) -> int:
    raw = os.environ.get(PREFIX + name)
    if raw is None or raw == "":
        return default
    try:
        value = int(raw)
    except ValueError:
        raise EnvironmentProblem(f"{PREFIX}{name} is {raw!r}, expected a whole number") from None
    if not low <= value <= high:
        raise EnvironmentProblem(f"{PREFIX}{name} is {value}, expected {low} to {high}")
    return value


def env_list(name: str, default: tuple[str, ...] = ()) -> list[str]:
    raw = os.environ.get(PREFIX + name)
    return [part.strip() for part in raw.split(",") if part.strip()] if raw else list(default)


def env_path(name: str, default: Path) -> Path:
    raw = os.environ.get(PREFIX + name)
    return Path(raw).expanduser().resolve() if raw else default


def env_secret(name: str, *, home: Path | None = None) -> str:
    """Return a secret from `NAME`, else from the file named by `NAME_FILE`, else from `<home>/secrets/<name>`.

    Empty when there is none: the caller (or `manage.py check --deploy`) refuses. There is no default secret.
    """
    raw = os.environ.get(PREFIX + name)
    if raw:
        return raw
    pointer = os.environ.get(f"{PREFIX}{name}_FILE")
    path = Path(pointer) if pointer else (home / "secrets" / name.lower() if home else None)
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if pointer:
            raise EnvironmentProblem(f"{PREFIX}{name}_FILE names {pointer}, which does not exist") from None
        return ""
