"""Two-phase commit over two gateways: what one prepared the other ends, also when the first was killed midway."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.bypass.wire import ConnectionLost, Target, Wire
from tests.chaos.gateways import another_gateway
from tests.chaos.servers import APP_PASSWORD, Upstream, own_upstream, wait_until
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROUNDS = 8 if os.environ.get("HOOPWEB_SOAK") else 2
_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: prepares, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true}}
access:
  - {{name: prepares, groups: [far-agents, far-others], connections: [prepares], operations: [read, write]}}
agents:
  - {{name: far-agent, groups: [far-agents], owner: admin}}
  - {{name: far-other, groups: [far-others], owner: admin}}
"""


@pytest.fixture(scope="module")
def two_phase() -> Iterator[Upstream]:
    home = Path(tempfile.mkdtemp(prefix="hoopweb-prepares-"))
    home.chmod(0o755)
    with own_upstream(home / "far", max_prepared_transactions="200") as running:
        yield running
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def agents(fragile: Stack, far: Target, two_phase: Upstream) -> tuple[Target, Target]:
    """Who prepares, and somebody else, on the same connection."""
    document = _DOCUMENT.format(port=two_phase.server.port, password=APP_PASSWORD)
    done = fragile.manage("apply", "-f", "-", stdin=document)
    assert done.returncode == 0, done.stderr
    mine = replace(far, database="prepares")
    return mine, replace(mine, user="far-other", password=fragile.agent_token("far-other"))


@dataclass
class Preparing:
    """A client that prepares one transaction after the other, until its gateway is gone."""

    target: Target
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    sent: list[str] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)

    def is_under_way(self) -> bool:
        return len(self.prepared) > 3

    def loop(self, number: int) -> None:
        with suppress(ConnectionLost, OSError), Wire(self.target, timeout_s=20) as wire:
            for count in range(40):
                name = f"{self.run}-{number}-{count}"
                self.sent.append(name)
                wire.simple("BEGIN")
                wire.simple(f"INSERT INTO marks VALUES ('{name}')")
                answer = wire.simple(f"PREPARE TRANSACTION '{name}'")
                if answer.lost or not answer.tags:
                    return
                self.prepared.append(name)


def left(upstream: Upstream, run: str) -> set[str]:
    return {str(row[0]) for row in upstream.query(f"SELECT gid FROM pg_prepared_xacts WHERE gid LIKE '{run}-%'")}


def nothing_runs(upstream: Upstream) -> bool:
    """Whether no session of the gateways' is in the middle of anything: one whose client is gone finishes first."""
    busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'far_app' AND state IS DISTINCT FROM 'idle'"
    return upstream.query(busy) == [(0,)]


def test_what_a_killed_gateway_prepared_is_ended_by_its_principal_at_another(
    fragile: Stack, two_phase: Upstream, agents: tuple[Target, Target]
) -> None:
    mine, other = agents
    chance = random.Random(20_261_129)
    for _ in range(ROUNDS):
        with another_gateway(fragile) as doomed:
            preparing = Preparing(doomed.reached_by(mine))
            threads = [threading.Thread(target=preparing.loop, args=(each,), daemon=True) for each in range(3)]
            for thread in threads:
                thread.start()
            wait_until(preparing.is_under_way, within_s=60, what="transactions to be prepared")
            time.sleep(chance.random() / 4)
            doomed.process.kill()
            for thread in threads:
                thread.join(60)

        wait_until(lambda: nothing_runs(two_phase), within_s=60, what="the server to end what its clients left")
        orphans = left(two_phase, preparing.run)
        assert set(preparing.prepared) <= orphans <= set(preparing.sent)
        with Wire(other) as stranger, Wire(mine) as successor:
            name = min(orphans)
            assert stranger.simple(f"COMMIT PREPARED '{name}'").sqlstate == "42501"
            ends = {each: chance.choice(["COMMIT", "ROLLBACK"]) for each in sorted(orphans)}
            said = [successor.simple(f"{end} PREPARED '{each}'").tags for each, end in ends.items()]

        assert said == [[f"{end} PREPARED"] for end in ends.values()]
        assert left(two_phase, preparing.run) == set()
        stored = {
            str(row[0]) for row in two_phase.query(f"SELECT label FROM marks WHERE label LIKE '{preparing.run}-%'")
        }
        assert stored == {each for each, end in ends.items() if end == "COMMIT"}


def test_one_name_is_prepared_and_ended_at_two_gateways_by_turns(
    fragile: Stack, two_phase: Upstream, agents: tuple[Target, Target]
) -> None:
    """The same name again and again: what was known of it before gives no right to what stands behind it now."""
    mine, other = agents
    with (
        another_gateway(fragile) as second,
        Wire(mine) as here,
        Wire(second.reached_by(mine)) as there,
        Wire(second.reached_by(other)) as stranger,
    ):
        said = []
        for number in range(6):
            prepares, ends = [(here, there), (there, here), (stranger, here)][number % 3]
            for text in ("BEGIN", f"INSERT INTO marks VALUES ('turn-{number}')", "PREPARE TRANSACTION 'turn'"):
                assert not prepares.simple(text).errors
            said.append(ends.simple("COMMIT PREPARED 'turn'").sqlstate)
            if said[-1]:
                assert stranger.simple("COMMIT PREPARED 'turn'").tags == ["COMMIT PREPARED"]

    assert said == ["", "", "42501"] * 2
    stored = two_phase.query("SELECT label FROM marks WHERE label LIKE 'turn-%' ORDER BY label")
    assert [str(row[0]) for row in stored] == [f"turn-{number}" for number in range(6)]
