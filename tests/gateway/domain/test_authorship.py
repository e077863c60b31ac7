"""Whose work `apply` writes: a person separation of duties binds, or plainly nobody."""

from __future__ import annotations

import getpass
from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.core.management.base import CommandError

from approvals.domain.load import load_policies
from approvals.domain.request import RequireApproval
from approvals.domain.review import decide_review, open_review
from approvals.models import Policy, PolicyVersion, Review
from audit.models import LogEntry
from gateway.models import Connection
from tests.approvals.factories import OFFICERS, binding, person, write_request

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]

HELD = {
    "name": "phi-writes",
    "connections": ["clinic"],
    "when": {"operation": ["write"]},
    "action": "require_approval",
    "reviewers": [{"group": "privacy-officers", "quorum": 1}],
}


@pytest.fixture(autouse=True)
def _officers(db: None) -> None:
    Group.objects.get_or_create(name="privacy-officers")
    Connection.objects.create(name="clinic", host="127.0.0.1")  # or `apply` tells that the policy names nothing


def apply(tmp_path: Path, *flags: str, **changes: object) -> str:
    path, said = tmp_path / "policies.yaml", StringIO()
    document = {"apiVersion": "hoopweb/v1", "policies": [{**HELD, **changes}]}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    call_command("apply", "-f", str(path), *flags, stdout=StringIO(), stderr=said)
    return said.getvalue()


def test_named_person_is_the_author_and_does_not_approve_alone(tmp_path: Path) -> None:
    ann, bob = person("ann", "privacy-officers"), person("bob", "privacy-officers")

    said = apply(tmp_path, "--as", "ANN@example.test")
    review = held_under_what_was_applied()
    decide_review(review=review, reviewer=ann, decision="approve", reason="my own rule says so")

    assert said == ""
    assert PolicyVersion.objects.get().author == "ann"
    assert Review.objects.get().status == "pending"
    assert decide_review(review=review, reviewer=bob, decision="approve", reason="seen").status == "approved"
    assert b'"author":"ann"' in bytes(LogEntry.objects.get(kind="config.changed").canonical)


def test_control_an_author_nobody_named_is_not_bound(tmp_path: Path) -> None:
    ann = person("ann", "privacy-officers")

    said = apply(tmp_path)

    assert "phi-writes: nobody is named as the author" in said
    assert PolicyVersion.objects.get().author.startswith("command:")
    review = held_under_what_was_applied()
    assert decide_review(review=review, reviewer=ann, decision="approve", reason="seen").status == "approved"


def test_account_called_as_whoever_is_logged_in_is_the_author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "")
    User.objects.create_user(getpass.getuser())

    assert apply(tmp_path) == ""
    assert PolicyVersion.objects.get().author == getpass.getuser()


def test_sudo_names_who_stood_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    person("ann")

    apply(tmp_path)

    assert PolicyVersion.objects.get().author == "ann"


@pytest.mark.parametrize("name", ["nobody", "gone", "shared@example.test", "command:root"])
def test_name_that_is_no_one_persons_is_refused(tmp_path: Path, name: str) -> None:
    person("gone", is_active=False)
    for twin in ("one", "two"):
        User.objects.create_user(twin, "shared@example.test")

    with pytest.raises(CommandError, match="one active account"):
        apply(tmp_path, "--as", name)

    assert not Policy.objects.exists()


def test_policy_without_a_person_is_refused_where_one_is_needed(tmp_path: Path, settings: object) -> None:
    settings.HOOPWEB_APPLY_NEEDS_PERSON = True  # type: ignore[attr-defined]
    person("ann")

    with pytest.raises(CommandError, match="phi-writes: nobody is named"):
        apply(tmp_path)

    assert not Policy.objects.exists()
    apply(tmp_path, separation=False)  # nobody is to be bound
    apply(tmp_path, "--as", "ann")
    assert PolicyVersion.objects.latest("number").author == "ann"


def test_removed_policy_names_who_removed_it(tmp_path: Path) -> None:
    person("ann")
    apply(tmp_path, "--as", "ann")
    path = tmp_path / "none.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": "hoopweb/v1", "policies": []}), encoding="utf-8")

    call_command("apply", "-f", str(path), "--prune", "--as", "ann", stdout=StringIO())

    assert PolicyVersion.objects.latest("number").author == "ann"
    assert PolicyVersion.objects.latest("number").document is None


def test_page_says_where_nobody_is_bound(tmp_path: Path, client: object) -> None:
    ann = person("ann", "privacy-officers")
    apply(tmp_path)
    review = held_under_what_was_applied()
    client.force_login(ann)  # type: ignore[attr-defined]

    assert "No person is recorded as the author" in client.get(review.get_absolute_url()).text  # type: ignore[attr-defined]


def held_under_what_was_applied() -> Review:
    (policy,) = load_policies()
    decision = RequireApproval(
        rule="phi-writes",
        reason="needs a reviewer",
        reviewers=(OFFICERS,),
        policies=("phi-writes@1",),
        authors=(policy.author,),
    )
    return open_review(
        request=write_request(), binding=binding(), decision=decision, session_id="s", statement_id="stmt"
    )
