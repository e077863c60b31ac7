"""SCIM as Okta and Entra ID speak it, and what ends when they switch somebody off. Refusals begin from what works."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from approvals.models import Grant, Review
from audit.models import LogEntry
from gateway.domain.connections import load_identity_rules
from gateway.domain.identity import revalidated
from gateway.domain.people import deactivate_person
from gateway.domain.provisioning import new_scim_token
from gateway.domain.tickets import buy_ticket, redeem_ticket
from gateway.domain.tokens import issue_agent_token, issue_person_token
from gateway.models import Agent, Issuer, PersonStatus, ScimToken
from gateway.session.services import AuthenticationFailed
from tests.approvals.factories import held
from tests.gateway.api.test_oauth import verifier

USERS, GROUPS = "/scim/v2/Users", "/scim/v2/Groups"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
# Okta's documented POST.
OKTA_USER = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
    "userName": "ada@example.org",
    "name": {"givenName": "Ada", "familyName": "Byron"},
    "emails": [{"primary": True, "value": "ada@example.org", "type": "work"}],
    "displayName": "Ada Byron",
    "locale": "en-US",
    "externalId": "00ujl29u0le5T6Aj10h7",
    "groups": [],
    "password": "1mz050nq",
    "active": True,
}


@pytest.fixture
def token(db: None) -> str:
    text, digest = new_scim_token()
    ScimToken.objects.create(name="okta", digest=digest)
    return text


class Provider:
    """The identity provider's side."""

    def __init__(self, token: str) -> None:
        self.client = Client(headers={"Authorization": f"Bearer {token}"})

    def send(self, method: str, path: str, document: Any = None) -> Any:
        body = document if isinstance(document, str) else json.dumps(document)
        return self.client.generic(method, path, body if document is not None else "", "application/scim+json")

    def patch(self, path: str, *operations: dict[str, Any]) -> Any:
        return self.send("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)})

    def add(self, **changes: Any) -> str:
        response = self.send("POST", USERS, {**OKTA_USER, **changes})
        assert response.status_code == 201, response.content
        return str(response.json()["id"])


@pytest.fixture
def provider(token: str) -> Provider:
    return Provider(token)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_what_is_not_served_is_an_error_of_scim_too(method: str, provider: Provider) -> None:
    for path in ("/scim/v2/Bulk", "/scim/v2/Me", "/scim/v2/Users/1/more"):
        answer = provider.send(method, path, {})

        assert answer["Content-Type"].startswith("application/scim+json")
        assert (answer.status_code, answer.json()["detail"]) == (404, "nothing is served at this address")
        assert Client().get(path).status_code == 401


# --- Who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [USERS, GROUPS, f"{USERS}/1", "/scim/v2/Schemas", "/scim/v2/ServiceProviderConfig"])
def test_nobody_else_gets_in(path: str, provider: Provider, token: str) -> None:
    assert provider.send("GET", path).status_code in {200, 404}  # the control
    owner = User.objects.create_user("owner", is_staff=True, is_superuser=True)
    agent = Agent.objects.create(name="a", client_id="a", owner=owner)
    signed_in = Client()
    signed_in.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")

    for bearer in (token[:-1], token.upper(), "hws_", issue_agent_token(agent), issue_person_token(owner)):
        assert Provider(bearer).send("GET", path).status_code == 401
    assert signed_in.get(path).status_code == 401
    assert Client().get(path)["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("change", [{"enabled": False}, {"expires_at": timezone.now() - timedelta(seconds=1)}])
def test_token_ends(change: dict[str, Any], provider: Provider) -> None:
    assert provider.send("GET", USERS).status_code == 200
    ScimToken.objects.update(**change)

    assert provider.send("GET", USERS).status_code == 401


def test_two_tokens_work_beside_each_other_and_each_knows_when(provider: Provider) -> None:
    text, digest = new_scim_token()
    ScimToken.objects.create(name="okta-2", digest=digest)

    assert Provider(text).send("GET", USERS).status_code == provider.send("GET", USERS).status_code == 200
    assert not ScimToken.objects.filter(last_used_at=None).exists()
    assert text not in str(list(ScimToken.objects.values()))


def test_guesser_is_slowed_down(provider: Provider, settings: Any) -> None:
    settings.HOOPWEB_FAILURES_PER_NAME = 3
    client = Client(headers={"Authorization": "Bearer hws_wrong"}, REMOTE_ADDR="192.0.2.77")

    assert [client.get(USERS).status_code for _ in range(4)] == [401, 401, 401, 429]


def test_scim_token_opens_no_other_door(provider: Provider) -> None:
    for path in ("/api/v1/connections", "/api/v1/reviews"):
        assert provider.client.get(path).status_code == 401


# --- Users -----------------------------------------------------------------------------------------------------------


def test_okta_makes_finds_and_changes_a_person(provider: Provider) -> None:
    empty = provider.client.get(USERS, {"filter": 'userName eq "ada@example.org"', "startIndex": 1, "count": 100})
    assert (empty.status_code, empty.json()["totalResults"]) == (200, 0)

    made = provider.send("POST", USERS, OKTA_USER)

    assert (made.status_code, made["Content-Type"]) == (201, "application/scim+json")
    pk = made.json()["id"]
    assert made["Location"].endswith(f"{USERS}/{pk}")
    user = User.objects.get(pk=pk)
    assert (user.username, user.first_name, user.has_usable_password()) == ("ada@example.org", "Ada", False)
    found = provider.client.get(USERS, {"filter": 'userName eq "ADA@example.org"'}).json()
    assert [each["id"] for each in found["Resources"]] == [pk]

    put = provider.send("PUT", f"{USERS}/{pk}", {**OKTA_USER, "name": {"givenName": "A.", "familyName": "King"}})

    assert put.json()["name"] == {"givenName": "A.", "familyName": "King"}
    entry = bytes(LogEntry.objects.filter(kind="config.changed").latest("seq").canonical)
    assert b'"subject":"scim:okta"' in entry
    assert b"1mz050nq" not in b"".join(bytes(each) for each in LogEntry.objects.values_list("canonical", flat=True))


def test_same_person_twice_is_a_conflict(provider: Provider) -> None:
    provider.add()
    again = provider.send("POST", USERS, {**OKTA_USER, "userName": "ADA@example.org"})

    assert (again.status_code, again.json()["scimType"]) == (409, "uniqueness")
    other = provider.send("POST", USERS, {**OKTA_USER, "userName": "other"})
    assert other.status_code == 409  # the same externalId


def test_local_accounts_are_not_the_providers(provider: Provider) -> None:
    """Break-glass above all: an identity provider that is lost must not take it along, nor take it over."""
    admin = User.objects.create_superuser("admin", password="x")
    PersonStatus.objects.create(user=admin, managed=True)
    local = User.objects.create_user("local")

    assert provider.send("POST", USERS, {**OKTA_USER, "userName": "admin"}).status_code == 409
    assert provider.send("POST", USERS, {**OKTA_USER, "userName": "local"}).status_code == 409
    for user in (admin, local):
        for method in ("GET", "PUT", "DELETE"):
            assert provider.send(method, f"{USERS}/{user.pk}", OKTA_USER).status_code == 404
        assert provider.patch(f"{USERS}/{user.pk}", *PLAIN_OFF).status_code == 404
    assert provider.send("GET", USERS).json()["totalResults"] == 0
    assert User.objects.filter(is_active=True).count() == 2


def test_mass_assignment_gives_nothing(provider: Provider) -> None:
    Group.objects.get_or_create(name="administrators")
    attack = {
        "is_superuser": True,
        "is_staff": True,
        "isSuperuser": True,
        "roles": [{"value": "administrators"}],
        "entitlements": ["all"],
        "groups": [{"value": str(Group.objects.get(name="administrators").pk)}],
        "user_permissions": [1],
        "password": "known",
        "id": "1",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"is_superuser": True},
    }
    pk = provider.add(**attack)
    provider.send("PUT", f"{USERS}/{pk}", {**OKTA_USER, **attack})
    provider.patch(f"{USERS}/{pk}", {"op": "replace", "value": attack})
    for name, value in attack.items():
        provider.patch(f"{USERS}/{pk}", {"op": "add", "path": name, "value": value})

    user = User.objects.get(pk=pk)
    assert (user.is_superuser, user.is_staff, user.has_usable_password()) == (False, False, False)
    assert not user.groups.exists()
    assert not user.user_permissions.exists()


OKTA_OFF = [{"op": "replace", "value": {"active": False}}]
ENTRA_OFF = [{"op": "Replace", "path": "active", "value": "False"}]
PLAIN_OFF = [{"op": "replace", "path": "active", "value": False}]
URN_OFF = [{"op": "replace", "path": "urn:ietf:params:scim:schemas:core:2.0:User:active", "value": False}]


@pytest.mark.parametrize("operations", [OKTA_OFF, ENTRA_OFF, PLAIN_OFF, URN_OFF])
def test_every_dialect_switches_off_and_on_again_without_roles(provider: Provider, operations: Any) -> None:
    pk = provider.add()
    user = User.objects.get(pk=pk)
    user.groups.add(Group.objects.get_or_create(name="auditors")[0])

    assert provider.patch(f"{USERS}/{pk}", *operations).json()["active"] is False

    user.refresh_from_db()
    assert (user.is_active, user.is_staff, user.groups.exists()) == (False, False, False)
    on = {**PLAIN_OFF[0], "value": True}
    assert provider.patch(f"{USERS}/{pk}", on).json()["active"] is True
    assert not user.groups.exists()


def test_entra_patches_names_with_dotted_keys_and_filtered_mails(provider: Provider) -> None:
    pk = provider.add()
    provider.patch(
        f"{USERS}/{pk}",
        {"op": "Add", "value": {"name.givenName": "Augusta", "name.familyName": "King"}},
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "king@example.org"},
        {"op": "Add", "path": "title", "value": "Countess"},
        {"op": "Remove", "path": "name.familyName"},
    )

    user = User.objects.get(pk=pk)
    assert (user.first_name, user.last_name, user.email) == ("Augusta", "", "king@example.org")


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        "null",
        '{"Operations": []}',
        '{"Operations": [{"op": "replace", "path": "active", "value": "maybe"}]}',
        '{"Operations": [{"op": "replace", "path": "active", "value": 0}]}',
        '{"Operations": [{"op": "move", "path": "active", "value": false}]}',
        '{"Operations": [{"op": "remove", "path": "userName"}]}',
        '{"Operations": [{"op": "replace", "path": 7, "value": false}]}',
        '{"Operations": ["replace"]}',
        '{"Operations": [{"op": "replace", "path": "userName", "value": "a/../b"}]}',
        '{"Operations": [{"op": "replace", "path": "userName", "value": {"x": 1}}]}',
        '{"Operations": [{"op": "replace", "value": {"active": false, "Active": true}}]}',
        '{"Operations": [{"op": "replace", "value": {"name": {"givenName": "\\u0000"}}}]}',
        "[" * 100_000,
    ],
)
def test_what_is_not_understood_is_refused_and_changes_nothing(provider: Provider, document: str) -> None:
    pk = provider.add()
    before = User.objects.filter(pk=pk).values().get()

    response = provider.send("PATCH", f"{USERS}/{pk}", document)

    assert (response.status_code, response.json()["status"]) == (400, "400")
    assert User.objects.filter(pk=pk).values().get() == before


@pytest.mark.parametrize(
    "text",
    [
        'userName eq "x" or userName pr',
        'userName eq "x"; DROP TABLE auth_user',
        "userName eq 'ada@example.org'",
        'password eq "x"',
        'is_superuser eq "true"',
        'groups__name eq "x"',
        'hoopweb_status__external_id eq "x"',
        'userName sw "a"',
        'not (userName eq "x")',
        'userName eq "\\u0000"',
        'userName eq "' + "a" * 2000 + '"',
        "userName eq",
        'userName eq "a" "b"',
    ],
)
def test_filters_are_equality_over_known_attributes_alone(provider: Provider, text: str) -> None:
    provider.add()
    response = provider.client.get(USERS, {"filter": text})

    assert (response.status_code, response.json()["scimType"]) == (400, "invalidFilter")


@pytest.mark.parametrize("value", ["%", "_da@example.org", "' or ''='", "ada@example.org ", '\\"', "*"])
def test_values_of_filters_are_values(provider: Provider, value: str) -> None:
    provider.add()
    response = provider.client.get(USERS, {"filter": f"userName eq {json.dumps(value)}"})

    assert response.json()["totalResults"] == 0


def test_lists_are_paged(provider: Provider) -> None:
    for number in range(5):
        provider.add(userName=f"user{number}", externalId=f"id{number}")

    page = provider.client.get(USERS, {"startIndex": 2, "count": 2}).json()

    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (5, 2, 2)
    assert [user["userName"] for user in page["Resources"]] == ["user1", "user2"]
    assert provider.client.get(USERS, {"count": 0}).json()["Resources"] == []
    assert provider.client.get(USERS, {"startIndex": "-1", "count": "x"}).status_code == 200


# --- Groups ----------------------------------------------------------------------------------------------------------


def members(name: str) -> set[str]:
    return set(User.objects.filter(groups__name=name).values_list("username", flat=True))


def test_entra_fills_and_empties_a_role(provider: Provider) -> None:
    ada, eve = provider.add(), provider.add(userName="eve", externalId="2")
    found = provider.client.get(GROUPS, {"filter": 'displayName eq "auditors"', "excludedAttributes": "members"}).json()
    (group,) = found["Resources"]
    assert "members" not in group
    path = f"{GROUPS}/{group['id']}"

    provider.patch(path, {"op": "Add", "path": "members", "value": [{"value": ada}, {"value": eve}]})
    assert members("auditors") == {"ada@example.org", "eve"}
    assert User.objects.get(pk=ada).is_staff
    provider.patch(path, {"op": "Remove", "path": "members", "value": [{"value": ada}]})
    assert members("auditors") == {"eve"}
    assert not User.objects.get(pk=ada).is_staff
    provider.patch(path, {"op": "remove", "path": f'members[value eq "{eve}"]'})
    assert members("auditors") == set()
    entries = LogEntry.objects.filter(kind="config.changed").order_by("-seq")[:1]
    assert b'"members":["eve"]' in bytes(entries[0].canonical)


def test_okta_pushes_a_group_and_replaces_its_members(provider: Provider) -> None:
    ada, eve = provider.add(), provider.add(userName="eve", externalId="2")
    made = provider.send("POST", GROUPS, {"displayName": "privacy-officers", "members": [{"value": ada}]})
    assert made.status_code == 201
    path = f"{GROUPS}/{made.json()['id']}"

    provider.send("PUT", path, {"displayName": "privacy-officers", "members": [{"value": eve, "display": "eve"}]})
    assert members("privacy-officers") == {"eve"}
    value = {"id": made.json()["id"], "displayName": "privacy-officers-2"}
    assert provider.patch(path, {"op": "replace", "value": value}).status_code == 200
    assert members("privacy-officers-2") == {"eve"}
    assert provider.send("DELETE", path).status_code == 204
    assert not Group.objects.filter(name="privacy-officers-2").exists()


def test_local_members_stay_whatever_the_provider_says(provider: Provider) -> None:
    group = Group.objects.create(name="privacy-officers")
    group.user_set.add(User.objects.create_user("local"))
    path = f"{GROUPS}/{group.pk}"

    assert provider.send("GET", path).json()["members"] == []
    provider.send("PUT", path, {"displayName": "privacy-officers", "members": []})
    provider.send("DELETE", path)

    assert members("privacy-officers") == {"local"}


def test_no_group_takes_a_roles_name_and_no_role_gives_its_up(provider: Provider) -> None:
    role = Group.objects.get(name="administrators")
    mine = provider.send("POST", GROUPS, {"displayName": "mine"}).json()["id"]
    rename = {"op": "replace", "path": "displayName", "value": "administrators"}

    assert provider.patch(f"{GROUPS}/{mine}", rename).status_code == 409
    assert provider.patch(f"{GROUPS}/{role.pk}", {**rename, "value": "other"}).status_code == 409
    provider.send("DELETE", f"{GROUPS}/{role.pk}")
    assert Group.objects.filter(name="administrators").exists()


@pytest.mark.parametrize("name", ["mine\u200b", "\u202emine", "mi\nne", "mine\u3164"])
def test_no_groups_name_has_letters_that_are_not_seen(provider: Provider, name: str) -> None:
    mine = provider.send("POST", GROUPS, {"displayName": "mine too"}).json()["id"]
    rename = {"op": "replace", "path": "displayName", "value": name}
    whole = {"displayName": name, "members": []}

    answers = [
        provider.send("POST", GROUPS, whole),
        provider.send("PUT", f"{GROUPS}/{mine}", whole),
        provider.patch(f"{GROUPS}/{mine}", rename),
        provider.patch(f"{GROUPS}/{mine}", {"op": "replace", "value": {"displayName": name}}),
    ]

    assert [answer.status_code for answer in answers] == [400] * 4
    assert "letters that can be seen; this has ⟨U+" in answers[0].json()["detail"]
    assert set(Group.objects.filter(name__startswith="mi").values_list("name", flat=True)) == {"mine too"}


def test_members_that_are_no_users_here_change_nothing(provider: Provider) -> None:
    local, off = User.objects.create_user("local"), provider.add()
    provider.patch(f"{USERS}/{off}", *PLAIN_OFF)
    group = Group.objects.get(name="auditors")

    for value in (str(local.pk), off, "999999", "x", "-1", 7, None, {"value": "1"}):
        operation = {"op": "add", "path": "members", "value": [{"value": value}]}
        assert provider.patch(f"{GROUPS}/{group.pk}", operation).status_code == 400
    assert members("auditors") == set()


# --- Discovery -------------------------------------------------------------------------------------------------------


def test_discovery_says_what_is_served(provider: Provider) -> None:
    configuration = provider.send("GET", "/scim/v2/ServiceProviderConfig").json()
    types = provider.send("GET", "/scim/v2/ResourceTypes").json()["Resources"]
    schemas = provider.send("GET", "/scim/v2/Schemas").json()["Resources"]

    assert (configuration["patch"]["supported"], configuration["bulk"]["supported"]) == (True, False)
    assert [each["endpoint"] for each in types] == ["/Users", "/Groups"]
    assert {each["schema"] for each in types} == {each["id"] for each in schemas}
    assert provider.send("POST", "/scim/v2/Schemas", {}).status_code == 405


# --- Deprovisioning --------------------------------------------------------------------------------------------------

OFF = {
    "patch": lambda provider, pk: provider.patch(f"{USERS}/{pk}", *PLAIN_OFF),
    "put": lambda provider, pk: provider.send("PUT", f"{USERS}/{pk}", {**OKTA_USER, "active": False}),
    "delete": lambda provider, pk: provider.send("DELETE", f"{USERS}/{pk}"),
}


@pytest.mark.parametrize("way", OFF)
def test_whoever_is_switched_off_holds_nothing_any_more(provider: Provider, way: str) -> None:
    pk = provider.add()
    user = User.objects.get(pk=pk)
    PersonStatus.objects.filter(user=user).update(oidc_subject="https://idp|00u|1")
    Issuer.objects.create(name="idp", issuer="https://idp", jwks_uri="https://idp/keys", algorithms=["RS256"])
    user.groups.add(Group.objects.get_or_create(name="privacy-officers")[0])
    agent = Agent.objects.create(name="theirs", client_id="theirs", owner=user, groups=["ai-agents"])
    own = verifier.verify_blocking(issue_person_token(user), rules=load_identity_rules())
    agents = verifier.verify_blocking(issue_agent_token(agent), rules=load_identity_rules())
    foreign = own.__class__(
        subject="00u|1", issuer="https://idp", groups=frozenset(), kind="person", issued_at=own.issued_at
    )
    ticket = buy_ticket(principal=own, connection="clinic")
    tab = Client()
    tab.force_login(user, backend="hoopweb.auth.PeopleBackend")
    for principal in (own, agents, foreign):
        revalidated(principal, rules=load_identity_rules())
    assert tab.get("/reviews/").status_code == 200
    review, decided = held(), held(statement="UPDATE patients SET phone = NULL WHERE id = 8")
    Review.objects.update(subject="theirs", owner="ada@example.org")
    Review.objects.filter(pk=decided.pk).update(status="approved", decided_at=timezone.now())
    grant = Grant.objects.create(review=decided, digest="x", expires_at=timezone.now() + timedelta(hours=1))

    assert OFF[way](provider, pk).status_code in {200, 204}

    rules = load_identity_rules()
    for principal in (own, agents, foreign):
        with pytest.raises(AuthenticationFailed):
            revalidated(principal, rules=rules)
    redeemed = redeem_ticket(secret=ticket.secret, user=own.subject, connection="clinic")
    with pytest.raises(AuthenticationFailed):
        revalidated(redeemed, rules=rules)
    assert tab.get("/reviews/").status_code == 302
    assert tab.post(f"/reviews/{review.pk}/", {"decision": "approve", "reason": "x"}).status_code in {302, 403}
    grant.refresh_from_db()
    review.refresh_from_db()
    assert (grant.revoked, review.status) == (True, Review.Status.WITHDRAWN)
    entry = json.loads(bytes(LogEntry.objects.filter(kind="person.deprovisioned").latest("seq").canonical))
    assert entry["body"]["agents"] == ["theirs"]
    assert (entry["body"]["by"], entry["body"]["grants"], entry["body"]["reviews"]) == ("scim:okta", 1, 1)


def test_sessions_do_not_come_back_with_the_account(provider: Provider) -> None:
    pk = provider.add()
    tab = Client()
    tab.force_login(User.objects.get(pk=pk), backend="hoopweb.auth.PeopleBackend")
    assert tab.get("/reviews/").status_code == 200
    provider.patch(f"{USERS}/{pk}", *PLAIN_OFF)
    provider.patch(f"{USERS}/{pk}", {**PLAIN_OFF[0], "value": True})

    assert User.objects.get(pk=pk).is_active
    assert tab.get("/reviews/").status_code == 302


def test_removed_person_comes_back_only_by_the_same_name_and_id(provider: Provider) -> None:
    pk = provider.add()
    provider.send("DELETE", f"{USERS}/{pk}")
    assert provider.send("GET", f"{USERS}/{pk}").status_code == 404
    assert provider.send("POST", USERS, {**OKTA_USER, "externalId": "another"}).status_code == 409

    again = provider.send("POST", USERS, OKTA_USER)

    assert (again.status_code, again.json()["id"], again.json()["active"]) == (201, pk, True)


def test_switching_off_twice_is_harmless(provider: Provider) -> None:
    user = User.objects.get(pk=provider.add())
    for _ in range(2):
        deactivate_person(user=user, by="scim:okta")

    assert not User.objects.get(pk=user.pk).is_active
