"""Random sessions, played directly and through the gateway: no canary ever comes out of the latter.

`make test` plays a bounded sample, `make soak` (HOOPWEB_SOAK) for HOOPWEB_BYPASS_S seconds. HOOPWEB_BYPASS_SEED
begins elsewhere.
"""

from __future__ import annotations

import os
import time

import psycopg
import pytest

from tests.bypass.attack import Arena
from tests.bypass.canary import found
from tests.bypass.conftest import gateway_target
from tests.bypass.sessions import MADE, Request, session
from tests.bypass.wire import Answer, ConnectionLost, Target, Wire
from tests.stack import Stack

SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
FIRST = int(os.environ.get("HOOPWEB_BYPASS_SEED", "20261129"))
SAMPLE = 12
SOAK_S = float(os.environ.get("HOOPWEB_BYPASS_S", "600"))


@pytest.mark.e2e
@pytest.mark.timeout(7200)
def test_random_sessions_never_disclose_what_they_disclose_directly(stack: Stack, arena: Arena) -> None:
    maker = gateway_target(stack, connection="bare", agent="attack-random")
    ends_at = time.monotonic() + SOAK_S
    failures, played, leaked, ran, ran_directly, lost = [], 0, 0, 0, 0, 0
    with psycopg.connect(stack.superuser_dsn(), autocommit=True) as owner:
        while (time.monotonic() < ends_at) if SOAKING else played < SAMPLE:
            seed = FIRST + played
            requests = session(seed)
            direct = play(arena.direct, requests)
            clear(owner)
            target = (maker, maker, arena.bare, arena.gateway)[seed % 4]
            if played % 200 == 0:
                maker = gateway_target(stack, connection="bare", agent="attack-random")
            answer = play(target, requests)
            clear(owner)
            played += 1
            leaked += bool(found(direct.received))
            ran, ran_directly = ran + len(answer.tags), ran_directly + len(direct.tags)
            lost += answer.lost
            if leaks := found(answer.received):
                failures.append(f"seed {seed} at {target.user}: {leaks}: {requests}")
    print(
        f"seed {FIRST}: {played} sessions, {leaked} leak directly, {ran} of {ran_directly} statements ran, {lost} lost"
    )

    assert failures == []
    assert lost == 0
    assert leaked > played // 5, "too few sessions leak directly for the test to mean anything"
    assert ran > ran_directly // 5, "too little runs through the gateway for the test to mean anything"


def play(target: Target, requests: list[Request]) -> Answer:
    """Send the requests in order on one connection; what fails or is refused stops nothing."""
    answer = Answer()
    try:
        with Wire(target) as wire:
            for request in requests:
                answer = answer + wire.request(request.encoded())
                if answer.lost:
                    break
    except ConnectionLost as gone:
        answer.lost = True
        answer.received += str(gone).encode()
    return answer


def clear(owner: psycopg.Connection) -> None:
    """Drop what definitions made, whatever it is by now."""
    made = owner.execute(
        "SELECT c.relkind, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relname LIKE %s AND n.nspname NOT LIKE 'pg_%%' AND c.relkind IN ('r', 'v', 'm')",
        [MADE + "%"],
    ).fetchall()
    kinds = {"r": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW"}
    for kind, name in made:
        owner.execute(
            f"DROP {kinds[kind.decode() if isinstance(kind, bytes) else kind]} IF EXISTS {name} CASCADE".encode()
        )
