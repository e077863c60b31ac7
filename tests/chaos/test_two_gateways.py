"""Two gateways behind a balancer: one is killed under load, the other drained. Clients go on, the log knows it all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bypass.wire import Target
from tests.chaos.balancer import balanced
from tests.chaos.gateways import another_gateway
from tests.chaos.load import Load, told, under_load, unsettled, wait_for_progress
from tests.chaos.servers import Upstream, wait_until
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


# Of two that kill under load for most of a minute a run plays one (tests/turn.py).
@pytest.mark.turn(1, of=2)
def test_killing_one_and_draining_the_other_loses_nothing(
    fragile: Stack, upstream: Upstream, far: Target, tmp_path: Path
) -> None:
    with (
        another_gateway(fragile, HOOPWEB_DRAIN_S="60") as doomed,
        another_gateway(fragile, HOOPWEB_DRAIN_S="60") as leaving,
        balanced(doomed.postgres_port, leaving.postgres_port, far.port) as balancer,
    ):
        load = Load([replace(far, port=balancer.port)])
        with under_load(load):
            wait_for_progress(load)
            wait_until(lambda: len(balancer.served) == 3, within_s=60, what="every gateway to have a client")
            doomed.process.kill()
            wait_for_progress(load)
            before = frozenset(load.sent)
            leaving.terminate()
            assert leaving.process.wait(60) == 0
            wait_for_progress(load)
    # The killed process's statements are settled by the next process that starts.
    with another_gateway(fragile):
        wait_until(lambda: not unsettled(fragile), within_s=120, what="every statement to be settled")

    stored = {str(row[0]) for row in upstream.query(f"SELECT label FROM marks WHERE label LIKE '{load.run}-%'")}
    found = told(fragile, tmp_path / "two.bundle", load.run)
    assert set(load.acknowledged) <= stored, "a client was told of a row that is not there"
    assert stored <= set(found), "a statement ran without an entry"
    assert {label: one for label, one in found.items() if (one.authorised, one.ends) != (1, 1)} == {}
    assert stored - before == set(load.acknowledged) - before, "draining ran a statement its client was not told of"
