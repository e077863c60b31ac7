"""Further gateways of a running stack: processes of their own on ports of their own, as on another host."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx

from hoopweb.embedded.ports import free_port
from tests.bypass.wire import Target
from tests.chaos.servers import wait_until
from tests.stack import PROJECT, Stack

_PORTS = ("HOOPWEB_POSTGRES_PORT", "HOOPWEB_MYSQL_PORT", "HOOPWEB_HTTP_PORT")


@dataclass
class Gateway:
    process: subprocess.Popen[bytes]
    postgres_port: int
    http_port: int

    def readyz(self) -> list[str] | None:
        """Names of what fails, empty when it is ready; None when nothing answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.http_port}/readyz", timeout=20, trust_env=False)
        except httpx.HTTPError:
            return None
        assert (answer.status_code == 200) is (answer.json() == {"status": "ok"})
        failing: list[str] = answer.json().get("failing", [])
        return failing

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def reached_by(self, target: Target) -> Target:
        return replace(target, port=self.postgres_port)


@contextmanager
def another_gateway(stack: Stack, **env: str) -> Iterator[Gateway]:
    picked: set[int] = set()
    for _ in _PORTS:
        picked.add(free_port(excluding=frozenset(picked)))
    ports = dict(zip(_PORTS, sorted(picked), strict=True))
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "manage.py"), "rungateway"],
        env={**stack.env, "DJANGO_SETTINGS_MODULE": "hoopweb.settings", **{n: str(p) for n, p in ports.items()}, **env},
        cwd=PROJECT,
    )
    gateway = Gateway(process, ports["HOOPWEB_POSTGRES_PORT"], ports["HOOPWEB_HTTP_PORT"])
    try:
        wait_until(lambda: gateway.readyz() == [], within_s=120, what="another gateway to be ready")
        yield gateway
    finally:
        process.kill()
        process.wait(10)
