"""One person with two accounts: what somebody may not decide, vote or review they cannot under another name either.

Accounts are one person's when they have one mail address. The controls show the same with another address.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from approvals.domain import hooks, refusal
from approvals.domain.dossier import still_missing
from approvals.domain.emergency import break_glass, end_emergency, review_emergency
from approvals.domain.refusal import Refusal
from approvals.domain.request import Principal, ReviewerGroup
from approvals.domain.review import decide_review
from approvals.models import EmergencyRoster, Review
from gateway.domain.requesters import accounts_of
from gateway.models import PersonStatus
from tests.approvals.factories import held, person, write_request

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
TWO = (ReviewerGroup("privacy-officers", 2),)
REASON = "patient in the emergency room, nobody answers"


def approve(review: Review, reviewer) -> Review:
    return decide_review(review=review, reviewer=reviewer, decision="approve", reason="looked at it")


def second_account(username: str, address: str):
    account = person(username, "privacy-officers")
    account.email = address
    account.save()
    return account


@pytest.fixture
def owner(db):
    return person("admin", is_superuser=True)  # answers for demo-agent


@pytest.mark.parametrize("address", ["admin@example.test", "ADMIN@Example.test"])
def test_owner_does_not_approve_under_a_second_account(address, owner):
    with pytest.raises(Refusal) as refused:
        approve(held(), second_account("a.dmin", address))

    assert refused.value.code == refusal.SELF_APPROVAL


def test_control_another_address_is_another_person(owner):
    assert approve(held(), second_account("a.dmin", "a.dmin@example.test")).status == Review.Status.APPROVED


def test_accounts_without_an_address_are_different_people(owner, reviewer):
    owner.email = ""
    owner.save()

    assert approve(held(), second_account("nameless", "")).status == Review.Status.APPROVED


def test_second_account_is_no_second_vote(reviewer):
    review = approve(held(groups=TWO), reviewer)

    with pytest.raises(Refusal) as refused:
        approve(review, second_account("re.viewer", "Reviewer@example.test"))

    assert refused.value.code == refusal.ALREADY_VOTED
    assert still_missing(review) == (ReviewerGroup("privacy-officers", 1),)
    assert approve(review, second_account("other", "other@example.test")).status == Review.Status.APPROVED  # control


def test_author_is_not_somebody_else_under_a_second_account(reviewer):
    review = held()
    Review.objects.update(authors=["reviewer"])

    again = approve(review, second_account("re.viewer", "reviewer@example.test"))
    assert again.status == Review.Status.PENDING

    assert approve(again, second_account("other", "other@example.test")).status == Review.Status.APPROVED  # control


def test_whoever_broke_the_glass_does_not_review_it_under_a_second_account(db):
    doctor = person("doctor")
    roster = EmergencyRoster.objects.create(
        name="er", connections=["clinic"], members=["doctor"], reviewers=["privacy-officers"]
    )
    access = break_glass(person=doctor, roster=roster, connection="clinic", reason=REASON)
    end_emergency(access=access)

    with pytest.raises(Refusal) as refused:
        review_emergency(
            access=access,
            reviewer=second_account("dr", "doctor@example.test"),
            finding="justified",
            notes="it was all right, I say",
        )

    assert refused.value.code == refusal.SELF_APPROVAL
    control = second_account("dr2", "dr2@example.test")
    assert review_emergency(access=access, reviewer=control, finding="justified", notes="it was all right, I say")


IDP, SUBJECT = "https://login.example", "00u1x7"


def asked_by_a_person(**known):
    """Held for a person their provider calls by an opaque number; the account here has a name."""
    principal = Principal(subject=SUBJECT, issuer=IDP, groups=frozenset({"analysts"}), kind="person", **known)
    request = replace(write_request(), principal=principal)
    return held(request=request, principal_subject=SUBJECT, principal_issuer=IDP)


def vouched_for(username: str, *, issuer: str = IDP):
    account = person(username, "privacy-officers")
    PersonStatus.objects.create(user=account, oidc_subject=f"{issuer}|{SUBJECT}")
    hooks.register(accounts_of=accounts_of)
    return account


def test_person_does_not_approve_what_they_asked_under_their_providers_number(db):
    with pytest.raises(Refusal) as refused:
        approve(asked_by_a_person(), vouched_for("ann"))

    assert refused.value.code == refusal.SELF_APPROVAL


def test_control_the_same_number_of_another_provider_is_somebody_else(db):
    account = vouched_for("ann", issuer="https://elsewhere.example")

    assert approve(asked_by_a_person(), account).status == Review.Status.APPROVED


@pytest.mark.parametrize("name", ["ann", "Ann@Example.test"])
def test_person_does_not_approve_what_their_token_says_is_theirs(name, db):
    """A pairwise `sub` (Entra ID) is another at every door; the mail address or the login in the token is not."""
    ann = person("ann", "privacy-officers")

    with pytest.raises(Refusal) as refused:
        approve(asked_by_a_person(known_as=frozenset({name})), ann)

    assert refused.value.code == refusal.SELF_APPROVAL


def test_control_other_names_in_the_token_bind_nobody_else(reviewer):
    review = asked_by_a_person(known_as=frozenset({"ann", "ann@example.test"}))

    assert approve(review, reviewer).status == Review.Status.APPROVED
