"""Ports: the public ones must be free, the embedded servers' own are picked once and remembered in the home."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

from hoopweb.embedded.files import write_whole
from hoopweb.embedded.problem import StackProblem


def require_free(*, port: int, variable: str, purpose: str, host: str = "127.0.0.1") -> None:
    """Raise with one sentence when something listens on `port` already."""
    if not is_free(port, host=host):
        raise StackProblem(f"port {port} ({purpose}) is already in use on {host}: stop what uses it or set {variable}")


def remembered_port(home: Path, name: str) -> int:
    """Return the port of an embedded server: last time's while it is free, else a new one, which is remembered."""
    path = home / "ports.json"
    known: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    port = known.get(name)
    if port is None or not is_free(port):
        port = free_port(excluding=frozenset(known.values()))
        write_whole(path, json.dumps(known | {name: port}))
    return port


def is_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there. SO_REUSEADDR ignores connections in TIME_WAIT, as the servers do."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(*, excluding: frozenset[int] = frozenset()) -> int:
    """A port nobody listens on, below the kernel's ephemeral range so that no outgoing connection takes it later."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        if port not in excluding and is_free(port):
            return port
