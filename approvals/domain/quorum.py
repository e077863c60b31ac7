"""Whether the people who approved satisfy every group, each person counting for one group only. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from approvals.domain.request import ReviewerGroup


def missing_approvals(
    reviewers: Iterable[ReviewerGroup], approvers: Mapping[str, frozenset[str]]
) -> tuple[ReviewerGroup, ...]:
    """Return what is still missing, as groups with the number of people; empty when the quorum is met.

    `approvers` maps a person to the groups they belong to. A person in two groups fills one seat: the assignment is a
    maximum bipartite matching (augmenting paths), so nobody is refused for having been counted in the wrong group.
    Members of a group's `stand_ins` may sit there too: whoever calls leaves them out until the request escalated.
    Of groups that are alternatives (`choice`) the one that is nearest to its quorum counts.
    """
    missing = (_missing(option, approvers) for option in _options(tuple(reviewers)))
    return min(missing, key=lambda groups: sum(group.quorum for group in groups))


def _options(reviewers: tuple[ReviewerGroup, ...]) -> Iterator[tuple[ReviewerGroup, ...]]:
    """Every way to satisfy the choices: all groups without a choice, and one of each choice."""
    fixed = tuple(group for group in reviewers if not group.choice)
    choices: dict[str, list[ReviewerGroup]] = {}
    for group in reviewers:
        if group.choice:
            choices.setdefault(group.choice, []).append(group)
    for picked in product(*choices.values()):
        yield fixed + picked


def _missing(
    reviewers: tuple[ReviewerGroup, ...], approvers: Mapping[str, frozenset[str]]
) -> tuple[ReviewerGroup, ...]:
    seats = [wanted for wanted in reviewers for _ in range(max(1, wanted.quorum))]
    holder: dict[int, str] = {}
    for person in sorted(approvers):
        _seat(person, seats, approvers, holder, set())
    empty = [seat.group for index, seat in enumerate(seats) if index not in holder]
    return tuple(ReviewerGroup(group, empty.count(group)) for group in dict.fromkeys(empty))


def _seat(
    person: str,
    seats: list[ReviewerGroup],
    approvers: Mapping[str, frozenset[str]],
    holder: dict[int, str],
    tried: set[int],
) -> bool:
    """Give `person` a seat, moving others along where they can sit elsewhere."""
    for index, seat in enumerate(seats):
        if index in tried or approvers[person].isdisjoint((seat.group, *seat.stand_ins)):
            continue
        tried.add(index)
        if index not in holder or _seat(holder[index], seats, approvers, holder, tried):
            holder[index] = person
            return True
    return False
