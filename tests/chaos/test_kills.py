"""kill -9 of any process at any moment, under load: nothing ran without its entry, no gap, no duplicate, no loose end.

Every statement of the load is one of its own (a label of its own), so that what the database holds can be compared with
what the log says, statement by statement. `make soak` does a hundred rounds, over all ways an entry becomes durable.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bypass.wire import Target
from tests.chaos.conftest import answers
from tests.chaos.load import Load, told, under_load, unsettled, wait_for_progress
from tests.chaos.servers import APP_PASSWORD, Upstream, wait_until
from tests.stack import Stack

SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
ROUNDS = 100 if SOAKING else 1
SEED = int(os.environ.get("HOOPWEB_CHAOS_SEED", "4711"))
# Most rounds hit the processes that write evidence; the others must not matter to it.
VICTIMS = ("gateway", "gateway", "gateway", "postgres", "redis", "web", "worker", "evidence", "scheduler")

_QUICK = """
apiVersion: hoopweb/v1
connections:
  - {{name: far-quick, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true, durability: os}}
  - {{name: far-disk, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true, durability: disk}}
access:
  - {{groups: [far-agents], connections: [far-quick, far-disk], operations: [read, write]}}
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200 if SOAKING else 600)]


@pytest.fixture
def journaled(fragile: Stack, upstream: Upstream, far: Target) -> list[Target]:
    """The same database through connections whose entries become durable in the process's journal."""
    document = fragile.home / "far-quick.yaml"
    document.write_text(_QUICK.format(port=upstream.server.port, password=APP_PASSWORD), encoding="utf-8")
    done = fragile.manage("apply", "-f", str(document))
    assert done.returncode == 0, done.stderr
    targets = [replace(far, database=name) for name in ("far-quick", "far-disk")]
    wait_until(lambda: all(map(answers, targets)), within_s=60, what="the connections with a journal")
    return targets


def test_whatever_is_killed_the_log_says_what_ran(
    fragile: Stack, upstream: Upstream, far: Target, journaled: list[Target], tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    load = Load([far, *journaled])
    killed: Counter[str] = Counter()
    with under_load(load):
        for number in range(ROUNDS):
            # The first rounds are the same everywhere; afterwards anything, at any moment.
            victim = "gateway" if number == 0 else chance.choice(VICTIMS)
            wait_for_progress(load)
            time.sleep(chance.random())
            os.kill(fragile.pids()[victim], signal.SIGKILL)
            killed[victim] += 1
            fragile.wait_healthy(within_s=120)
            renewed = fragile.new_agent_token("far-agent")
            load.targets[:] = [replace(target, password=renewed) for target in load.targets]
        wait_for_progress(load)
    wait_until(lambda: not unsettled(fragile), within_s=120, what=f"every statement to be settled after {killed}")

    stored = {str(row[0]) for row in upstream.query(f"SELECT label FROM marks WHERE label LIKE '{load.run}-%'")}
    found = told(fragile, tmp_path / "kills.bundle", load.run)

    assert set(load.acknowledged) <= stored, "a client was told of a row that is not there"
    assert stored <= set(found), f"{len(stored - set(found))} statements ran without an entry after {killed}"
    assert [label for label, one in found.items() if one.authorised != 1] == [], "authorised twice, or never"
    assert [label for label, one in found.items() if one.ends != 1] == [], "ended twice, or never"
    assert set(found) <= set(load.sent)
    assert killed["gateway"] >= 1
