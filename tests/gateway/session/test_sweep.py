"""Who may not go on is found by looking, once a second, whatever timers and clocks say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from approvals.domain.request import Principal
from gateway.domain.tokens import issuer_url
from gateway.session.context import SessionContext
from gateway.session.registry import RULES_CHANGED, SessionRegistry
from gateway.session.sweep import Sweep
from tests.gateway.session.doors import Rules, snapshot


def opened(
    registry: SessionRegistry,
    *,
    protocol: str = "postgres",
    expires_in_s: float | None = None,
    rules_changed: Callable[[], bool] = lambda: True,
) -> list[str]:
    """A person's session in this registry; what is returned has why it was ended, once it was."""
    ended: list[str] = []

    async def kill(reason: str) -> None:
        ended.append(reason)

    until = None if expires_in_s is None else time.time() + expires_in_s
    principal = Principal("somebody", issuer_url(), frozenset({"ai-agents"}), kind="service", expires_at=until)
    context = SessionContext(principal=principal, connection=snapshot().connections["clinic"], protocol=protocol)
    registry.add(context, kill, rules_changed=rules_changed)
    return ended


@pytest.mark.parametrize(
    ("protocol", "expires_in_s", "reasons"),
    [("postgres", -1, ["token-expired"]), ("postgres", 60, []), ("postgres", None, []), ("rest", -1, [])],
)
async def test_session_that_outlived_its_token_ends_whatever_its_timer_says(
    protocol: str, expires_in_s: float | None, reasons: list[str]
) -> None:
    """A machine that slept, or a clock that was set forward: the timer counts the seconds the machine was awake."""
    registry, rules = SessionRegistry(), Rules()
    sweep = Sweep(rules, registry)
    await sweep.look()  # these rules are known: nothing else is looked at again
    ended = opened(registry, protocol=protocol, expires_in_s=expires_in_s)

    await sweep.look()

    assert ended == reasons


async def test_outlived_token_is_found_while_the_rules_are_out_of_date() -> None:
    registry = SessionRegistry()
    ended = opened(registry, expires_in_s=-1)

    await Sweep(Rules(stale=True), registry).look()

    assert ended == ["token-expired"]


async def test_what_runs_is_looked_at_once_for_every_change_of_the_rules() -> None:
    registry, rules, looked = SessionRegistry(), Rules(), []
    sweep = Sweep(rules, registry)
    ended = opened(registry, rules_changed=lambda: not looked.append(rules.value.version))

    for version in (2, 2, 3):
        rules.value = replace(rules.value, version=version)
        await sweep.look()

    assert (looked, ended) == ([2, 3], [])


@pytest.mark.parametrize("fails", [False, True])
async def test_session_that_runs_what_is_not_allowed_any_more_ends(fails: bool) -> None:
    def not_allowed() -> bool:
        if fails:
            raise KeyError
        return False

    registry = SessionRegistry()
    ended, other = opened(registry, rules_changed=not_allowed), opened(registry)

    await Sweep(Rules(), registry).look()

    assert (ended, other) == ([RULES_CHANGED], [])


async def test_session_that_takes_its_time_to_end_keeps_no_other_going_on() -> None:
    registry, rules, kills = SessionRegistry(), Rules(), []

    async def slow(reason: str) -> None:
        kills.append(reason)
        await asyncio.sleep(60)

    opened(registry)
    first = next(iter(registry.live()))
    registry.add(first.context, slow, rules_changed=lambda: False)
    sweep = Sweep(rules, registry)
    ended = opened(registry, expires_in_s=-1)

    async with asyncio.timeout(10):
        await sweep.look()
        rules.value = replace(rules.value, version=2)
        await sweep.look()
        other = opened(registry, rules_changed=lambda: False)
        rules.value = replace(rules.value, version=3)
        await sweep.look()

    assert kills == [RULES_CHANGED]  # begun once, and not yet over
    assert (set(ended), other) == ({"token-expired"}, [RULES_CHANGED])
