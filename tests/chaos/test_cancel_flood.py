"""Anybody who reaches the port may send cancel requests. Those with a wrong key cost the others nothing they need."""

from __future__ import annotations

import secrets
import socket
import struct

import httpx
import pytest

from tests.bypass.wire import Target, Wire
from tests.chaos.gateways import Gateway, another_gateway
from tests.chaos.servers import frozen, wait_until
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MANY = 300  # three times what a channel between processes holds


def ask_to_cancel(gateway: Gateway) -> None:
    """With a key that is nobody's; returns when the gateway has passed it on."""
    with socket.create_connection(("127.0.0.1", gateway.postgres_port), timeout=60) as courier:
        courier.sendall(struct.pack("!IIi4s", 16, 80877102, 1, secrets.token_bytes(4)))
        courier.recv(1)


def test_wrong_cancel_requests_do_not_crowd_out_the_end_of_a_session(fragile: Stack, far: Target) -> None:
    admin = {"Authorization": f"Bearer {fragile.demo['users']['admin']['token']}"}
    sessions = f"{fragile.demo['web_url']}/api/v1/sessions"
    with another_gateway(fragile) as flooded, Wire(far, timeout_s=120) as wire:
        wire.simple("SELECT 1")
        live = httpx.get(sessions, params={"live": "1", "connection": "far"}, headers=admin, timeout=60).json()
        ours = live["results"][0]["id"]
        with frozen(fragile.pids()["gateway"]):  # it hears what is told when it goes on
            for _ in range(MANY):
                ask_to_cancel(flooded)
            told = httpx.post(f"{sessions}/{ours}/kill", headers=admin, timeout=60)
            assert told.status_code == 202, told.text

        wait_until(lambda: wire.simple("SELECT 2").lost, within_s=60, what="the session to end")
