"""Which connections are open: everything that could make a decision depend on the statement closes them."""

from __future__ import annotations

import time
from dataclasses import replace
from types import MappingProxyType

import pytest

from analysis.statement import Operation, Statement
from approvals.domain.decide import EVERY_RIGHT, AccessRule, Action, Condition, PolicyRule
from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec, Snapshot
from gateway.session.openness import is_open, unread
from masking.domain.rules import Inference, MaskingRule, Technique

_SPEC = ConnectionSpec(name="scratch", kind="postgres", phi=False)
_AGENT = Principal("agent", "https://issuer", frozenset({"agents"}))
_OPEN = Snapshot(
    version=1,
    loaded_at=time.monotonic(),
    connections=MappingProxyType({"scratch": _SPEC}),
    access_rules=(AccessRule(frozenset({"agents"}), ("scratch",), EVERY_RIGHT),),
    policies=(),
    masking_rules=(),
    agents=MappingProxyType({}),
    people=MappingProxyType({}),
)
_SOME = frozenset({Operation.READ, Operation.WRITE, Operation.DDL})


def test_connection_with_nothing_to_protect_is_open() -> None:
    assert is_open(_OPEN, _SPEC, _AGENT)


@pytest.mark.parametrize(
    ("snapshot", "spec", "groups"),
    [
        (_OPEN, replace(_SPEC, phi=True), {"agents"}),
        (_OPEN, _SPEC, {"others"}),
        (replace(_OPEN, access_rules=(AccessRule(frozenset({"agents"}), ("*",), _SOME),)), _SPEC, {"agents"}),
        (replace(_OPEN, policies=(PolicyRule("p", ("scr*",), Action.ALLOW, Condition()),)), _SPEC, {"agents"}),
        (
            replace(_OPEN, masking_rules=(MaskingRule("m", ("*",), ("a.b.c",), Technique.REDACT, Inference.OPEN),)),
            _SPEC,
            {"agents"},
        ),
    ],
    ids=["phi", "no right", "not every right", "a policy", "a masking rule"],
)
def test_anything_that_could_depend_on_the_statement_closes_it(
    snapshot: Snapshot, spec: ConnectionSpec, groups: set[str]
) -> None:
    assert not is_open(snapshot, spec, replace(_AGENT, groups=frozenset(groups)))


def test_unread_statement_is_incomplete_and_needs_every_right() -> None:
    analysis = unread(Statement("select 'unfinished"))

    assert not analysis.complete
    assert analysis.operations == EVERY_RIGHT
