"""What of a notification is shown: the rules' answer at the moment it arrives, nothing without a right or a rule."""

from __future__ import annotations

import time
from dataclasses import replace
from types import MappingProxyType

import pytest

from analysis.statement import Operation
from approvals.domain.decide import AccessRule
from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec, Snapshot, StaleSnapshot
from gateway.session.context import SessionContext
from gateway.session.notifications import payload_shown
from masking.domain.rules import MaskingRule, Technique

SAID = "order 7 for 536-71-9284"
_SPEC = ConnectionSpec(name="clinic", kind="postgres", phi=True)
_SESSION = SessionContext(Principal("agent", "https://issuer", frozenset({"agents"})), _SPEC, "postgres")
_RIGHT = AccessRule(frozenset({"agents"}), ("clinic",), frozenset({Operation.READ, Operation.LISTEN}))
_SCAN = MaskingRule("orders", ("clinic",), ("notifications.orders.payload",), Technique.SCAN)
_SNAPSHOT = Snapshot(
    version=1,
    loaded_at=time.monotonic(),
    connections=MappingProxyType({"clinic": _SPEC}),
    access_rules=(_RIGHT,),
    policies=(),
    masking_rules=(_SCAN,),
    agents=MappingProxyType({}),
    people=MappingProxyType({}),
)


class Rules:
    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot

    def current(self) -> Snapshot:
        if self._snapshot is None:
            raise StaleSnapshot
        return self._snapshot


def shown(snapshot: Snapshot | None, channel: str = "orders", said: str = SAID) -> str:
    return payload_shown(Rules(snapshot), _SESSION, channel, said)


def test_scan_shows_what_is_no_identifier() -> None:
    assert shown(_SNAPSHOT).startswith("order 7 for ")
    assert "536-71-9284" not in shown(_SNAPSHOT)
    assert shown(_SNAPSHOT, said="order 7") == "order 7"


def test_exempt_groups_see_it_and_other_techniques_apply() -> None:
    exempt = replace(_SCAN, exempt_groups=frozenset({"agents"}))
    assert shown(replace(_SNAPSHOT, masking_rules=(exempt,))) == SAID
    redact = replace(_SCAN, technique=Technique.REDACT)
    assert "order" not in shown(replace(_SNAPSHOT, masking_rules=(redact,)))


@pytest.mark.parametrize(
    "snapshot",
    [
        None,
        replace(_SNAPSHOT, masking_rules=()),
        replace(_SNAPSHOT, masking_rules=(replace(_SCAN, connections=("other",)),)),
        replace(_SNAPSHOT, access_rules=(replace(_RIGHT, operations=frozenset({Operation.READ})),)),
        replace(_SNAPSHOT, access_rules=(replace(_RIGHT, groups=frozenset({"others"})),)),
        replace(_SNAPSHOT, connections=MappingProxyType({})),
        replace(_SNAPSHOT, connections=MappingProxyType({"clinic": replace(_SPEC, enabled=False)})),
    ],
    ids=["stale", "no rule", "rule of another", "right taken away", "right of others", "gone", "switched off"],
)
def test_without_right_or_rule_nothing_is_shown(snapshot: Snapshot | None) -> None:
    assert shown(snapshot) == ""


@pytest.mark.parametrize("channel", ["invoices", "Orders", "ORDERS", "orders.payload", "orders ", "*", ""])
def test_a_rule_covers_its_channel_alone(channel: str) -> None:
    assert shown(_SNAPSHOT, channel) == ""


def test_globs_cover_channels_as_they_are_spelled() -> None:
    every = replace(_SNAPSHOT, masking_rules=(replace(_SCAN, columns=("notifications.Or*.payload",)),))

    assert shown(every, "Orders", "order 7") == "order 7"
    assert shown(every, "orders", "order 7") == ""
