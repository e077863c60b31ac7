"""A copy of the stack to break, with an upstream of its own: whatever fails, the other part keeps working."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bypass.wire import ConnectionLost, Target, Wire
from tests.chaos.servers import APP_PASSWORD, Upstream, own_upstream, wait_until
from tests.stack import Stack, stack_in

SNAPSHOT_MAX_AGE_S = 4

_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: far, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true}}
access:
  - {{groups: [far-agents], connections: [far], operations: [read, write]}}
masking:
  - {{name: far-ssn, connections: [far], columns: [public.patients.ssn], technique: redact, inference: guarded}}
policies:
  - name: far-phi-writes
    connections: [far]
    when: {{operation: [write], touches_phi: true}}
    action: require_approval
    reviewers: [privacy-officers]
agents:
  - {{name: far-agent, groups: [far-agents], owner: admin}}
"""


@pytest.fixture(scope="package")
def upstream() -> Iterator[Upstream]:
    home = Path(tempfile.mkdtemp(prefix="hoopweb-chaos-"))
    home.chmod(0o755)
    with own_upstream(home / "far") as running:
        yield running
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="package")
def fragile(upstream: Upstream) -> Iterator[Stack]:
    """The stack that is broken; named so that nobody takes it for the session's `stack`."""
    home = Path(tempfile.mkdtemp(prefix="hoopweb-fragile-"))
    home.chmod(0o755)
    with stack_in(home, impatient=True, HOOPWEB_SNAPSHOT_MAX_AGE_S=str(SNAPSHOT_MAX_AGE_S)) as running:
        document = home / "far.yaml"
        document.write_text(_DOCUMENT.format(port=upstream.server.port, password=APP_PASSWORD), encoding="utf-8")
        done = running.manage("apply", "-f", str(document))
        assert done.returncode == 0, done.stderr
        yield running
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def far(fragile: Stack) -> Target:
    """The connection `far` through the gateway of the fragile stack, which is whole again by now."""
    listener = fragile.demo["postgres"]
    target = Target(
        host=str(listener["host"]),
        port=int(listener["port"]),
        database="far",
        user="far-agent",
        password=fragile.agent_token("far-agent"),
        tls=listener["sslmode"] not in {"disable", "prefer", "allow"},
    )
    wait_served(fragile, target)
    return target


def wait_served(fragile: Stack, target: Target) -> None:
    """What was broken is whole again, and a client of `target` is served.

    Healthy is what each part says of itself. A log's writer that failed refuses for up to two seconds more, until it
    tries again, and a client that comes meanwhile is told to come again: so it does.
    """
    fragile.wait_healthy(within_s=120)
    wait_until(lambda: answers(target), within_s=120, what="a session that is recorded and answered")


def answers(target: Target) -> bool:
    try:
        with Wire(target, timeout_s=20) as wire:
            return wire.simple("SELECT 1").rows == [(b"1",)]
    except (ConnectionLost, OSError):
        return False
