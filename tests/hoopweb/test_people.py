"""People of another provider, from the first redirect to the console: who gets in, as what, and who does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import Group, User
from django.test import Client

from audit.models import LogEntry
from gateway.models import Agent, PersonStatus
from tests.hoopweb.provider import Provider, running_provider


@pytest.fixture
def provider(db: None, settings: Any) -> Iterator[Provider]:
    with running_provider(configured.OIDC_RP_CLIENT_ID) as running:
        running.configure(settings)
        yield running


def account() -> User:
    return User.objects.get(username="ada")


def groups_of(user: User) -> set[str]:
    return set(user.groups.values_list("name", flat=True))


def failures() -> int:
    return LogEntry.objects.filter(kind="authentication.failed").count()


def test_first_sign_in_makes_an_account_with_the_providers_groups(provider: Provider) -> None:
    client = Client()
    response = provider.sign_in(client, groups=["auditors", "unknown-here"], is_superuser=True, is_staff=True)

    assert response.status_code == 302
    assert (groups_of(account()), account().is_superuser) == ({"auditors"}, False)
    assert client.get("/admin/").status_code == 200
    assert account().hoopweb_status.oidc_subject == f"{provider.url}|00u1"  # type: ignore[attr-defined]


def test_who_is_in_no_group_here_finds_no_console(provider: Provider) -> None:
    client = Client()
    provider.sign_in(client, groups=["unknown-here"])
    assert client.get("/admin/").status_code == 302

    Agent.objects.create(name="theirs", client_id="theirs", owner=account())
    provider.sign_in(client, groups=[])

    assert client.get("/admin/").status_code == 200  # who answers for agents has something to look at


def test_groups_follow_the_provider_at_every_sign_in_and_the_log_says_so(provider: Provider) -> None:
    provider.sign_in(Client(), groups=["auditors"])
    provider.sign_in(Client(), groups=["policy-authors"])
    assert groups_of(account()) == {"policy-authors"}

    provider.sign_in(Client())  # no claim: no group is known, so none is held

    assert groups_of(account()) == set()
    assert b'"groups":["policy-authors"]' in bytes(
        LogEntry.objects.filter(kind="config.changed").latest("seq").canonical
    )


@pytest.mark.parametrize("claim", ["auditors", ["auditors"], ["auditors", 7, None, {"name": "administrators"}]])
def test_one_group_may_be_a_text_and_what_is_no_text_is_no_group(provider: Provider, claim: Any) -> None:
    provider.sign_in(Client(), groups=claim)

    assert groups_of(account()) == {"auditors"}


@pytest.mark.parametrize("claim", [{"auditors": True}, 7, [["auditors"]], "administrators,auditors"])
def test_groups_in_another_form_are_no_groups(provider: Provider, claim: Any) -> None:
    provider.sign_in(Client(), groups=claim)

    assert groups_of(account()) == set()


def test_groups_are_kept_where_the_provider_sends_none(provider: Provider, settings: Any) -> None:
    """Google Workspace: the claim is named empty, and groups are given here or by SCIM."""
    settings.HOOPWEB_OIDC_GROUPS_CLAIM = ""
    provider.sign_in(Client())
    account().groups.add(Group.objects.get(name="auditors"))
    client = Client()

    provider.sign_in(client)

    assert groups_of(account()) == {"auditors"}
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("overage", [{"_claim_names": {"groups": "src1"}, "_claim_sources": {}}, {"hasgroups": True}])
def test_overage_is_refused_in_words_and_recorded(provider: Provider, overage: dict[str, Any]) -> None:
    provider.sign_in(Client(), groups=["auditors"])
    client, before = Client(), failures()

    response = provider.sign_in(client, **overage)

    assert response.status_code == 403
    assert b"too many" in response.content
    assert client.get("/admin/").status_code == 302
    assert (groups_of(account()), failures()) == ({"auditors"}, before + 1)


@pytest.mark.parametrize("name", ["ad\u200ba", "ada\u202e", "ada\nBcc: x", "ada\x1b[2J"])
def test_a_name_with_letters_nobody_sees_makes_no_account(provider: Provider, name: str) -> None:
    """It would stand beside the account it looks like, and a line break in it keeps mails about it from being sent."""
    response = provider.sign_in(Client(), preferred_username=name, groups=["auditors"])

    assert response.status_code == 403
    assert "letters that cannot be seen" in response.text
    assert not User.objects.filter(username__startswith="ad").exclude(username="admin").exists()


def test_switched_off_person_is_told_and_does_not_come_back(provider: Provider) -> None:
    client = Client()
    provider.sign_in(client, groups=["auditors"])
    assert client.get("/admin/").status_code == 200

    User.objects.update(is_active=False)

    assert client.get("/admin/").status_code == 302  # the session, with nothing but the account switched off
    for name in ("ada", "renamed"):
        again = provider.sign_in(Client(), preferred_username=name, groups=["auditors"])
        assert (again.status_code, b"switched off" in again.content) == (403, True)
    assert User.objects.count() == 1


@pytest.mark.parametrize("name", ["admin", "ADMIN"])
def test_account_is_not_taken_over_by_its_name(provider: Provider, name: str) -> None:
    User.objects.create_superuser("admin")
    client = Client()

    response = provider.sign_in(client, preferred_username=name, email="admin@example.org", groups=["administrators"])

    assert (response.status_code, b"not linked" in response.content) == (403, True)
    assert client.get("/admin/").status_code == 302
    assert PersonStatus.objects.count() == 0


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": ["hoopweb-console", "another-client"]},
        {"exp": 1},
        {"exp": None},
        {"nonce": "other"},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
    ],
    ids=str,
)
def test_id_token_that_is_not_for_us_signs_nobody_in(provider: Provider, claims: dict[str, Any]) -> None:
    client = Client()

    provider.sign_in(client, groups=["auditors"], **claims)

    assert client.get("/admin/").status_code == 302
    assert not User.objects.exists()


def provisioned(external_id: str = "00u1", **known: Any) -> User:
    user = User.objects.create_user("ada.byron", **known)
    PersonStatus.objects.create(user=user, managed=True, external_id=external_id)
    return user


def test_provisioned_person_is_found_by_the_providers_id(provider: Provider) -> None:
    user = provisioned()

    provider.sign_in(Client(), preferred_username="somebody-else", groups=["auditors"])

    user.refresh_from_db()
    assert (User.objects.count(), groups_of(user)) == (1, {"auditors"})
    assert user.hoopweb_status.oidc_subject == f"{provider.url}|00u1"  # type: ignore[attr-defined]


def test_entra_is_linked_by_another_claim_than_the_subject(provider: Provider, settings: Any) -> None:
    settings.HOOPWEB_OIDC_EXTERNAL_ID_CLAIM = "oid"
    user = provisioned("object-id")

    provider.sign_in(Client(), sub="pairwise", oid="object-id", groups=["auditors"])

    assert groups_of(user) == {"auditors"}


def test_provisioned_person_is_not_found_by_anything_else(provider: Provider) -> None:
    provisioned("another", email="ada@example.org")

    response = provider.sign_in(Client(), preferred_username="ada.byron", email="ada@example.org", groups=["auditors"])

    assert response.status_code == 403
    assert PersonStatus.objects.get().oidc_subject is None


def test_linked_person_is_not_linked_again(provider: Provider) -> None:
    user = provisioned()
    PersonStatus.objects.update(oidc_subject="https://idp|first")

    response = provider.sign_in(Client(), preferred_username="ada.byron", groups=["auditors"])

    assert (response.status_code, groups_of(user)) == (403, set())


def test_session_is_another_after_signing_in(provider: Provider) -> None:
    """Session fixation: a session id that somebody planted is not the one that is signed in."""
    client = Client()
    client.get("/oidc/authenticate/")
    planted = client.session.session_key

    provider.sign_in(client, groups=["auditors"])

    assert client.session.session_key != planted
    cookie = client.cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


def test_state_works_once_and_only_in_its_own_browser(provider: Provider) -> None:
    client = Client()
    provider.sign_in(client, groups=["auditors"])
    state = provider.asked["state"][0]

    assert client.get("/oidc/callback/", {"code": "c", "state": state}).status_code == 403
    assert Client().get("/oidc/callback/", {"code": "c", "state": state}).status_code == 302
