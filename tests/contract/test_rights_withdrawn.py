"""A right is withdrawn while its holder sends rows: on the running product too, nothing of them stays."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from tests.contract.test_switched_off import closing_reasons, dialled, until
from tests.gateway.mcp.test_revoked import NO_RIGHT, Hired, agent, take
from tests.stack import Stack

__all__ = ["agent"]  # a fixture

GUARD_S = 60


def test_rows_that_are_copied_in_end_with_the_right_to_write_them(stack: Stack, agent: Hired) -> None:
    dsn = stack.gateway_dsn(user=agent.name, token=agent.token)
    with dialled(dsn) as native:
        native.execute("create temp table mine (id int)")
        with native.cursor().copy("copy mine from stdin") as control:
            control.write_row([1])
        assert native.execute("select count(*) from mine").fetchone() == (1,)

        with pytest.raises(psycopg.OperationalError) as ended:
            send_while_it_is_withdrawn(stack, agent, native)

    assert "the rules changed" in str(ended.value)
    assert until(lambda: closing_reasons(stack, agent.name)) == {"postgres": "rules-changed"}


def send_while_it_is_withdrawn(stack: Stack, agent: Hired, native: psycopg.Connection[Any]) -> None:
    with native.cursor().copy("copy mine from stdin") as copying:
        copying.write_row([2])
        take(stack, agent.name, NO_RIGHT)
        for _ in range(GUARD_S * 5):  # every gateway hears of rules in a second or two
            copying.write_row([3])  # kept by the client until it has more of them: it reads why at the end
            if closing_reasons(stack, agent.name):
                return
            time.sleep(0.2)
