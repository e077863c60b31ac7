"""What approvals must ask of the data plane, which lies above it: registered once, when the gateway app is ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from approvals.domain.decide import AccessRule
from approvals.domain.request import Binding, Decision, Principal


@dataclass(frozen=True, slots=True)
class Reanalysis:
    """What a text would do and what the rules say about it. `problem` (free of values) replaces both on failure."""

    facts: dict[str, Any] = field(default_factory=dict)  # as approvals.domain.facts.review_facts makes them
    risk: int = 0
    decision: Decision | None = None
    problem: str = ""


class Reanalyse(Protocol):
    def __call__(self, *, binding: Binding, principal: Principal) -> Reanalysis:
        """Analyse and decide `binding.statement` as `principal` would run it now, without running it. May block."""


@dataclass(slots=True)
class _Registry:
    reanalyse: Reanalyse | None = None
    requester_enabled: list[Callable[[Binding], bool]] = field(default_factory=list)
    rules_changed: Callable[[], object] | None = None
    agents_of: Callable[[str], Iterable[str]] | None = None
    access_rules: Callable[[], tuple[AccessRule, ...]] | None = None
    purpose_of: Callable[[str, str], str] | None = None
    accounts_of: Callable[[str, str], Iterable[str]] | None = None


_registry = _Registry()


def register(
    *,
    reanalyse: Reanalyse | None = None,
    requester_enabled: Callable[[Binding], bool] | None = None,
    rules_changed: Callable[[], object] | None = None,
    agents_of: Callable[[str], Iterable[str]] | None = None,
    access_rules: Callable[[], tuple[AccessRule, ...]] | None = None,
    purpose_of: Callable[[str, str], str] | None = None,
    accounts_of: Callable[[str, str], Iterable[str]] | None = None,
) -> None:
    """Add the data plane's answers. Requester checks add up; of the others the last one counts."""
    if agents_of is not None:
        _registry.agents_of = agents_of
    if accounts_of is not None:
        _registry.accounts_of = accounts_of
    if purpose_of is not None:
        _registry.purpose_of = purpose_of
    if access_rules is not None:
        _registry.access_rules = access_rules
    if rules_changed is not None:
        _registry.rules_changed = rules_changed
    if reanalyse is not None:
        _registry.reanalyse = reanalyse
    if requester_enabled is not None and requester_enabled not in _registry.requester_enabled:
        _registry.requester_enabled.append(requester_enabled)


def reanalyse(*, binding: Binding, principal: Principal) -> Reanalysis:
    """Ask the data plane; a modification nobody can analyse has a problem, and so is never approved."""
    if _registry.reanalyse is None:
        return Reanalysis(problem="no data plane is there to analyse the modified statement")
    return _registry.reanalyse(binding=binding, principal=principal)


def requester_enabled(binding: Binding) -> bool:
    """Whether everyone behind the request may still act, as far as the registered checks know."""
    return all(check(binding) for check in _registry.requester_enabled)


def rules_changed() -> None:
    """A policy was changed; called in the transaction that does it."""
    if _registry.rules_changed is not None:
        _registry.rules_changed()


def agents_of(username: str) -> frozenset[str]:
    """The agents a person answers for; none where nobody can say."""
    return frozenset(_registry.agents_of(username)) if _registry.agents_of is not None else frozenset()


def purpose_of(subject: str, issuer: str) -> str:
    """What a requester is there for, as whoever registered it wrote down; empty where nobody did."""
    return _registry.purpose_of(subject, issuer) if _registry.purpose_of is not None else ""


def accounts_of(subject: str, issuer: str) -> frozenset[str]:
    """The user names under which a subject of an issuer is known here; none where nobody can say."""
    return frozenset(_registry.accounts_of(subject, issuer)) if _registry.accounts_of is not None else frozenset()


def access_rules() -> tuple[AccessRule, ...]:
    """The rights in force; none where nobody can say."""
    return _registry.access_rules() if _registry.access_rules is not None else ()
