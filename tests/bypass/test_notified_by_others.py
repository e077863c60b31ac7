"""What others notify with, heard by an agent: as the rules of that moment show it, on whatever channel, at any time.

The senders are triggers and programs of the database's owner, which no rule of the gateway is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import psycopg
import pytest

from tests.bypass.attack import Arena
from tests.bypass.canary import NOTE_SSN, PATIENT, found
from tests.bypass.conftest import gateway_target
from tests.bypass.wire import SYNC, Answer, ConnectionLost, Wire, bind, describe_portal, execute, parse
from tests.stack import Stack

SSN, PHONE, MAIL = PATIENT["ssn"], PATIENT["phone"], PATIENT["email"]
SAID = f"order seven, for {SSN}"
WITHIN_S = 60.0
_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: told, kind: postgres, host: 127.0.0.1, port: {port}, database: {database}, username: {user},
      password: {{value: "{password}"}}, tls: disable, phi: true, recording: metadata}}
agents:
  - {{name: told-agent, groups: [{groups}], owner: admin}}
access:
  - {{name: told-rows, groups: [told-agents, told-others], connections: [told], operations: [read]}}
  - {{name: told-heard, groups: [told-agents], connections: [told], operations: {heard}}}
masking:
  - {{name: told-shown, connections: [told], columns: [notifications.shown.payload], technique: {technique},
      exempt_groups: [{exempt}]}}
  - {{name: told-hidden, connections: [told], columns: ["notifications.hid*.payload"], technique: redact}}
  - {{name: told-quoted, connections: [told], columns: ['notifications.sh"own.payload'], technique: scan}}
"""
_USUAL = {"groups": "told-agents", "heard": "[read, listen]", "technique": "scan", "exempt": ""}


@dataclass
class Told:
    """The connection, and how its rules are changed under whoever listens."""

    stack: Stack
    in_force: dict[str, str] | None = None

    def apply(self, **changes: str) -> None:
        wanted = {**_USUAL, **changes}
        if wanted == self.in_force:
            return
        upstream = self.stack.demo["upstream"]
        known = {name: upstream[name] for name in ("port", "database", "password")} | {"user": upstream["username"]}
        done = self.stack.manage("apply", "-f", "-", stdin=_DOCUMENT.format(**known, **wanted))
        assert done.returncode == 0, done.stderr
        self.in_force = wanted

    def listener(self, channel: str = "") -> Wire:
        """A session that hears the channel: tried again until the rules of before hold no longer."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            with suppress(ConnectionLost):
                wire = Wire(gateway_target(self.stack, connection="told", agent="told-agent"))
                if not channel or not wire.simple(f"LISTEN {channel}").errors:
                    return wire
                wire.close()
            assert time.monotonic() < deadline, "nobody may listen"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def connection(stack: Stack, arena: Arena) -> Told:
    return Told(stack)


@pytest.fixture
def told(connection: Told) -> Told:
    """With its usual rules."""
    connection.apply()
    return connection


@pytest.fixture
def owner(stack: Stack, arena: Arena) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.superuser_dsn(), autocommit=True) as connection:
        yield connection


def notify(owner: psycopg.Connection, channel: str, payload: str) -> None:
    owner.execute("SELECT pg_notify(%s, %s)", [channel, payload])


def hear(wire: Wire, many: int) -> list[tuple[str, str]]:
    """So many notifications, as (channel, payload); asks until they are there."""
    heard: list[tuple[str, str]] = []
    deadline = time.monotonic() + WITHIN_S
    while len(heard) < many and time.monotonic() < deadline:
        heard += wire.simple("SELECT 1").notified
    return heard


CHANNELS = [
    *("shown", "hidden", "without", "Shown", 'sh"own'),
    *("shown.payload", "*", "notifications.shown", "sh own", "été"),
]


@pytest.mark.e2e
def test_every_channel_shows_what_its_own_rule_says(told: Told, owner: psycopg.Connection) -> None:
    with told.listener() as wire:
        for channel in CHANNELS:
            quoted = channel.replace('"', '""')
            assert not wire.simple(f'LISTEN "{quoted}"').errors, channel
        for channel in CHANNELS:
            notify(owner, channel, SAID)
        heard = dict(hear(wire, len(CHANNELS)))

    assert list(heard) == CHANNELS
    shown = {channel for channel, payload in heard.items() if payload.startswith("order seven, for ")}
    assert shown == {"shown", 'sh"own'}
    assert {channel for channel, payload in heard.items() if payload} - shown <= {"hidden"}
    assert found(" ".join(heard.values()).encode()) == []


PAYLOADS = {
    "at the end of the longest": "word " * 1595 + SSN,
    "in the middle": "word " * 790 + f" {PHONE} " + "word " * 790,
    "behind four-byte letters": "\U0001f4a9" * 1900 + f" {MAIL} ",
    "behind right-to-left": "\u202e\u05d0\u05d1 " + SSN,
    "behind combining marks": "e\u0301\u0327" * 300 + " " + NOTE_SSN,
    "in a document": f'{{"event": "update", "row": {{"ssn": "{SSN}", "email": "{MAIL}"}}}}',
    "many": f"{SSN}, {PHONE}, {MAIL}; " * 120,
    "on lines": f"a\n{SSN}\r\n\t{PHONE}\n",
}


@pytest.mark.e2e
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_no_payload_is_too_long_or_too_strange_to_be_searched(
    told: Told, owner: psycopg.Connection, payload: str
) -> None:
    assert found(payload.encode())  # the control
    with told.listener("shown") as wire:
        notify(owner, "shown", payload)
        ((_, heard),) = hear(wire, 1)

    assert found(heard.encode()) == []
    assert len(heard) > 3


@pytest.mark.e2e
def test_triggers_of_others_are_heard_as_the_rules_show_them(told: Told, owner: psycopg.Connection) -> None:
    owner.execute("CREATE TABLE IF NOT EXISTS attack_events (id integer)")
    owner.execute(
        "CREATE OR REPLACE FUNCTION attack_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM "
        "pg_notify('shown', to_jsonb(p)::text), pg_notify('hidden', p.ssn) FROM patients p WHERE id = 900001; "
        "RETURN NULL; END $$"
    )
    try:
        owner.execute(
            "CREATE TRIGGER attack_event AFTER INSERT ON attack_events FOR EACH ROW EXECUTE FUNCTION attack_event()"
        )
        owner.execute("CREATE RULE attack_also AS ON INSERT TO attack_events DO ALSO NOTIFY shown, 'by rule'")
        with told.listener("shown") as wire:
            wire.simple("LISTEN hidden")
            owner.execute("COPY attack_events FROM PROGRAM 'echo 1'")
            owner.execute("INSERT INTO attack_events VALUES (1)")
            owner.execute("DO $$ BEGIN PERFORM pg_notify('shown', ssn) FROM patients WHERE id = 900001; END $$")
            heard = hear(wire, 5)
    finally:
        owner.execute("DROP TABLE attack_events")
        owner.execute("DROP FUNCTION attack_event")

    assert len(heard) >= 5
    said = " ".join(payload for _, payload in heard)
    assert [each for each in (SSN, PHONE, MAIL) if each in said] == []
    assert "by rule" in said


LOSSES: dict[str, tuple[dict[str, str], Callable[[str], bool]]] = {
    "the right": ({"heard": "[read]"}, lambda payload: payload == ""),
    "the rule shows less": ({"technique": "redact"}, lambda payload: "order" not in payload),
    "the exemption": ({"exempt": ""}, lambda payload: SSN not in payload),
}


@pytest.mark.e2e
@pytest.mark.parametrize("lost", LOSSES)
def test_what_changes_while_it_listens_holds_for_what_comes_then(
    told: Told, owner: psycopg.Connection, lost: str
) -> None:
    changes, shows_less = LOSSES[lost]
    told.apply(**({"exempt": "told-agents"} if lost == "the exemption" else {}))
    with told.listener("shown") as wire:
        notify(owner, "shown", SAID)
        ((_, before),) = hear(wire, 1)
        told.apply(**changes)  # and every gateway has it
        heard: list[str] = []
        for _ in range(10):
            notify(owner, "shown", SAID)
            heard += [payload for _, payload in hear(wire, 1)]

    assert "order seven" in before  # the control
    assert len(heard) >= 10
    assert all(shows_less(payload) for payload in heard), heard[:3]


@pytest.mark.e2e
def test_a_lost_group_ends_who_listens(told: Told, owner: psycopg.Connection) -> None:
    with told.listener("shown") as wire:
        notify(owner, "shown", SAID)
        ((_, before),) = hear(wire, 1)
        told.apply(groups="told-others")
        ended_within = time.monotonic() + WITHIN_S
        lost = False
        while not lost and time.monotonic() < ended_within:
            lost = wire.simple("SELECT 1").lost
            time.sleep(0.1)

    assert "order seven" in before  # the control
    assert lost


@pytest.mark.e2e
@pytest.mark.parametrize("protocol", ["simple", "prepared"])
def test_notifications_amid_remembered_statements_come_once_each_in_order(
    told: Told, owner: psycopg.Connection, protocol: str
) -> None:
    """The express lane takes usual answers in one look: a notification in between must not pass beside the rules."""
    many = 200
    text = "SELECT id, sex FROM patients WHERE id = 900001"
    request = bind(statement="s") + describe_portal() + execute() + SYNC
    with told.listener("shown") as wire:
        wire.request(parse(text, name="s") + SYNC)

        def ask() -> Answer:
            return wire.simple(text) if protocol == "simple" else wire.request(request)

        for _ in range(5):
            ask()
        answers = []
        for number in range(many):
            notify(owner, "shown", f"{number} for {SSN}")
            if number % 3 == 0:
                answers.append(ask())
        deadline = time.monotonic() + WITHIN_S
        while sum(len(answer.notified) for answer in answers) < many and time.monotonic() < deadline:
            answers.append(ask())

    heard = [payload.split()[0] for answer in answers for _, payload in answer.notified]
    assert heard == [str(number) for number in range(many)]
    assert {tuple(answer.rows) for answer in answers} == {((b"900001", b"F"),)}
    assert [found(answer.received) for answer in answers if found(answer.received)] == []
