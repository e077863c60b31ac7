"""Roles that nobody has together: refused at every door, shown, and without effect where they came about sideways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.urls import reverse

from approvals.domain import refusal
from approvals.domain.refusal import Refusal
from approvals.domain.reviewers import eligible_groups
from approvals.domain.role_conflicts import role_holders
from approvals.domain.role_names import parse_role_conflicts
from approvals.models import Policy
from gateway.domain.configuration.change import apply_document
from gateway.domain.configuration.reading import DocumentProblem, parse_document
from hoopweb.auth import PeopleBackend
from hoopweb.signing_in import SignInRefused
from tests.approvals.factories import held
from tests.hoopweb.test_dashboard import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def policy(db: None) -> Policy:
    return Policy.objects.create(
        name="holds", connections=["*"], action="require_approval", reviewers=["privacy-officers"], when={}
    )


def group(name: str) -> Group:
    return Group.objects.get_or_create(name=name)[0]


def person(name: str, *groups: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set([group(one) for one in groups])
    return user


PAIRS = [
    ("policy-authors", "privacy-officers"),
    ("administrators", "auditors"),
    ("auditors", "privacy-officers"),
    ("agent-owners", "auditors"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("reverse_side", [False, True])
def test_nobody_gets_the_second_of_two(first: str, second: str, *, reverse_side: bool) -> None:
    user = person("ann", first)

    with pytest.raises(ValidationError, match="ann is not to be of both"), transaction.atomic():
        group(second).user_set.add(user) if reverse_side else user.groups.add(group(second))

    assert list(user.groups.values_list("name", flat=True)) == [first]
    user.groups.set([group(second)])  # instead of the first: the control


def test_a_superuser_is_an_administrator() -> None:
    root = User.objects.create_superuser("root", password="x")

    with pytest.raises(ValidationError), transaction.atomic():
        root.groups.add(group("auditors"))


def test_shown_alone_where_it_is_not_enforced(settings: Any) -> None:
    settings.HOOPWEB_ROLE_CONFLICTS_ENFORCED = False
    person("ann", "policy-authors", "privacy-officers")
    person("bob", "auditors")

    ann, bob = role_holders()
    assert (ann.username, ann.conflicts) == ("ann", (("policy-authors", "reviewers"),))
    assert (bob.roles, bob.conflicts) == (("auditors",), ())
    page = signed_in(User.objects.create_superuser("root")).get(reverse("console:roles")).content.decode()
    assert "policy-authors + reviewers" in page


def test_other_pairs_as_configured(settings: Any) -> None:
    settings.HOOPWEB_ROLE_CONFLICTS = parse_role_conflicts(["administrators+reviewers"])
    person("bob", "policy-authors", "privacy-officers")

    with pytest.raises(ValidationError), transaction.atomic():
        person("ann", "administrators", "privacy-officers")


@pytest.mark.parametrize("text", ["auditors", "auditors+auditors", "auditors+cooks"])
def test_pairs_that_are_none_are_told(text: str) -> None:
    with pytest.raises(ValueError, match="no pair of roles"):
        parse_role_conflicts([text])


def test_who_came_to_be_both_by_a_policy_decides_nothing(policy: Policy) -> None:
    policy.reviewers = []
    policy.save()
    ann = person("ann", "policy-authors", "privacy-officers")
    bob = person("bob", "privacy-officers")
    policy.reviewers = ["privacy-officers"]
    policy.save()
    review = held()

    with pytest.raises(Refusal) as refused:
        eligible_groups(review, ann)

    assert refused.value.code == refusal.ROLE_CONFLICT
    assert eligible_groups(review, bob) == {"privacy-officers"}


def document(**members: list[str]) -> Any:
    groups = [{"name": name.replace("_", "-"), "members": people} for name, people in members.items()]
    return parse_document({"apiVersion": "hoopweb/v1", "groups": groups})


def test_apply_refuses_all_of_a_document_that_makes_one(tmp_path: Path) -> None:
    person("ann")

    with pytest.raises(DocumentProblem, match="ann is not to be of both"):
        apply_document(document(auditors=["ann"], administrators=["ann"]), base=tmp_path, actor="t")

    assert not group("auditors").user_set.exists()


def test_apply_moves_somebody_in_whatever_order(tmp_path: Path) -> None:
    person("ann", "auditors")

    apply_document(document(administrators=["ann"], auditors=[]), base=tmp_path, actor="t")

    assert [one.username for one in group("administrators").user_set.all()] == ["ann"]


def test_console_says_so_in_the_form() -> None:
    ann = person("ann", "auditors")
    client = signed_in(User.objects.create_superuser("root"))
    place = reverse("admin:auth_user_change", args=[ann.pk])
    fields = {"username": "ann", "is_active": "on", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    both = [str(group("auditors").pk), str(group("administrators").pk)]

    refused = client.post(place, {**fields, "groups": both})

    assert refused.status_code == 200
    assert "nobody has these roles together" in refused.content.decode()
    assert client.post(place, {**fields, "groups": both[1:]}).status_code == 302  # the control
    assert list(ann.groups.values_list("name", flat=True)) == ["administrators"]


def test_sign_in_with_both_groups_is_refused_in_a_sentence(settings: Any) -> None:
    settings.HOOPWEB_OIDC_EMBEDDED = False
    settings.HOOPWEB_OIDC_GROUPS_CLAIM = "groups"

    def sign_in(claims: dict[str, Any]) -> Any:
        return PeopleBackend().get_or_create_user("", "", claims)

    refused = pytest.raises(SignInRefused, match="ann is not to be of both administrators and auditors")
    with refused, transaction.atomic():
        sign_in({"sub": "1", "preferred_username": "ann", "groups": ["auditors", "administrators"]})

    assert sign_in({"sub": "1", "preferred_username": "ann", "groups": ["auditors"]}).username == "ann"
