"""Whether the people who approved satisfy every group, each person counting for one group only. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from approvals.domain.request import ReviewerGroup


def missing_approvals(
    reviewers: Iterable[ReviewerGroup], approvers: Mapping[str, frozenset[str]]
) -> tuple[ReviewerGroup, ...]:
    """Return what is still missing, as groups with the number of people; empty when the quorum is met.

    `approvers` maps a person to the groups they belong to. A person in two groups fills one seat: the assignment is a
    maximum bipartite matching (augmenting paths), so nobody is refused for having been counted in the wrong group.
    """
    seats = [wanted.group for wanted in reviewers for _ in range(max(1, wanted.quorum))]
    holder: dict[int, str] = {}
    for person in sorted(approvers):
        _seat(person, seats, approvers, holder, set())
    empty = [group for index, group in enumerate(seats) if index not in holder]
    return tuple(ReviewerGroup(group, empty.count(group)) for group in dict.fromkeys(empty))


def _seat(
    person: str,
    seats: list[str],
    approvers: Mapping[str, frozenset[str]],
    holder: dict[int, str],
    tried: set[int],
) -> bool:
    """Give `person` a seat, moving others along where they can sit elsewhere."""
    for index, group in enumerate(seats):
        if index in tried or group not in approvers[person]:
            continue
        tried.add(index)
        if index not in holder or _seat(holder[index], seats, approvers, holder, tried):
            holder[index] = person
            return True
    return False
