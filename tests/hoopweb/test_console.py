"""The console: every page opens for whom it should, changes are recorded, secrets are never shown."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from audit.models import LogEntry
from gateway.domain.credentials import open_credential
from gateway.domain.version import current_version
from gateway.models import Agent, Connection
from masking.models import MaskingRule

CONNECTION = {
    "name": "clinic",
    "kind": "postgres",
    "host": "127.0.0.1",
    "port": "5432",
    "database": "clinic",
    "username": "app",
    "secret": "canary-secret",
    "tls": "disable",
    "phi": "on",
    "recording": "masked-results",
    "durability": "database",
    "scan_text": "on",
    "enabled": "on",
    "settings": "{}",
}


@pytest.fixture
def administrator(db: None) -> Client:
    return signed_in(User.objects.create_superuser("admin"))


@pytest.fixture
def auditor(db: None) -> Client:
    user = User.objects.create_user("auditor", is_staff=True)
    user.groups.add(Group.objects.get(name="auditors"))
    return signed_in(user)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def pages() -> list[str]:
    names = [(model._meta.app_label, model._meta.model_name) for model in admin.site._registry]
    return [f"admin:{app}_{model}_changelist" for app, model in names]


def changes() -> list[str]:
    return [bytes(e.canonical).decode() for e in LogEntry.objects.filter(kind="config.changed").order_by("seq")]


@pytest.mark.parametrize("page", ["admin:index", *pages()])
def test_every_page_opens_for_an_administrator(administrator: Client, page: str) -> None:
    assert administrator.get(reverse(page)).status_code == 200


@pytest.mark.parametrize("page", ["connection", "agent", "accessrule", "issuer"])
def test_every_form_opens_for_an_administrator(administrator: Client, page: str) -> None:
    assert administrator.get(reverse(f"admin:gateway_{page}_add")).status_code == 200


def test_connection_is_saved_sealed_versioned_and_recorded(administrator: Client) -> None:
    response = administrator.post(reverse("admin:gateway_connection_add"), CONNECTION)

    assert response.status_code == 302
    row = Connection.objects.get()
    assert open_credential(bytes(row.credential.sealed)) == {"password": "canary-secret"}
    assert current_version() == 1
    (entry,) = changes()
    assert '"before":null' in entry
    assert '"host":"127.0.0.1"' in entry
    assert "canary" not in entry
    page = administrator.get(reverse("admin:gateway_connection_change", args=[row.pk])).content
    assert b"canary-secret" not in page


def test_connection_in_clear_to_another_host_is_refused_in_words(administrator: Client) -> None:
    response = administrator.post(reverse("admin:gateway_connection_add"), {**CONNECTION, "host": "db.example"})

    assert b"disable is for loopback hosts only" in response.content
    assert not Connection.objects.exists()


@pytest.mark.parametrize("kind", ["snowflake", "mysql", "gcs", "kubernetes"])
def test_kinds_nothing_serves_are_neither_offered_nor_taken(administrator: Client, kind: str) -> None:
    """Such a connection would be listed and enabled, and no agent could ever use it."""
    offered = administrator.get(reverse("admin:gateway_connection_add")).content.decode()
    administrator.post(reverse("admin:gateway_connection_add"), {**CONNECTION, "kind": kind})

    assert 'value="bigquery"' in offered
    assert f'value="{kind}"' not in offered
    assert not Connection.objects.exists()


def test_connection_of_such_a_kind_from_before_can_be_switched_off(administrator: Client) -> None:
    row = Connection.objects.create(name="old", kind="mysql", host="127.0.0.1", port=1, tls="disable")
    fields = {**CONNECTION, "name": "old", "kind": "mysql"}
    place = reverse("admin:gateway_connection_change", args=[row.pk])

    kept_on = administrator.post(place, fields)
    switched_off = administrator.post(place, {name: value for name, value in fields.items() if name != "enabled"})

    assert b"is not one this version serves" in kept_on.content
    assert switched_off.status_code == 302
    assert not Connection.objects.get().enabled


SOCKET = {**CONNECTION, "host": "/cloudsql/project:region:instance", "settings": '{"requirepeer": "proxy"}'}


def test_directory_of_sockets_is_saved_and_listed(administrator: Client) -> None:
    response = administrator.post(reverse("admin:gateway_connection_add"), SOCKET)

    assert response.status_code == 302
    row = Connection.objects.get()
    assert (row.host, row.tls, row.settings) == (SOCKET["host"], "disable", {"requirepeer": "proxy"})
    listed = administrator.get(reverse("admin:gateway_connection_changelist")).content
    assert b"none (Unix socket)" in listed


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tls": "verify-full"}, b"there is no TLS over a Unix socket, expected disable"),
        ({"host": "/" + "d" * 93}, b"the socket&#x27;s path has 108 bytes, expected no more than 107"),
        ({"host": "/run/postgresql/.s.PGSQL.5432"}, b"expected the directory alone: the gateway adds .s.PGSQL.PORT"),
        ({"settings": '{"requirepeer": "nobody"}'}, b"requirepeer is nobody"),
        ({"host": "127.0.0.1"}, b"requirepeer is for Unix sockets"),
    ],
)
def test_sockets_that_cannot_be_or_say_less_are_refused_in_words(
    administrator: Client, changes: dict[str, str], problem: bytes
) -> None:
    response = administrator.post(reverse("admin:gateway_connection_add"), {**SOCKET, **changes})

    assert problem in response.content
    assert not Connection.objects.exists()


def test_guided_set_up_asks_whose_socket_it_is(administrator: Client) -> None:
    answers = {"name": "clinic", "host": "/run/postgresql", "port": "5432", "database": "clinic", "username": "app"}
    place = reverse("console:connect")

    refused = administrator.post(place, {**answers, "tls": "verify-full", "requirepeer": "postgres"})
    accepted = administrator.post(place, {**answers, "tls": "disable", "requirepeer": "postgres", "phi": "on"})

    assert b"there is no TLS over a Unix socket" in refused.content
    assert accepted.status_code == 302
    assert Connection.objects.get().settings == {"requirepeer": "postgres"}


def test_guided_set_up_changes_what_it_asks_and_keeps_the_rest(administrator: Client) -> None:
    added = {**CONNECTION, "recording": "metadata", "settings": '{"pooler": "session"}'}
    administrator.post(reverse("admin:gateway_connection_add"), added)
    place = reverse("console:connect-change", args=["clinic"])
    answers = {"name": "other", "host": "127.0.0.1", "port": "5432", "username": "app", "tls": "disable", "phi": "on"}

    shown = administrator.get(place).content
    refused = administrator.post(place, {**answers, "database": "", "password": "canary-new"}).content
    accepted = administrator.post(place, {**answers, "database": "ward", "password": ""})

    assert b'value="clinic"' in shown
    assert b"give it again: no page repeats it" in refused
    assert not [page for page in (shown, refused) if b"canary" in page]
    assert accepted["Location"] == reverse("console:connect-test", args=["clinic"])
    row = Connection.objects.get()
    assert (row.name, row.database, row.recording) == ("clinic", "ward", "metadata")
    assert row.settings == {"pooler": "session"}
    assert open_credential(bytes(row.credential.sealed)) == {"password": "canary-secret"}


def test_a_group_has_no_letters_nobody_sees(administrator: Client) -> None:
    place = reverse("admin:auth_group_add")

    refused = administrator.post(place, {"name": "ai-agents\u200b"})
    accepted = administrator.post(place, {"name": "night shift"})

    assert "this has ⟨U+200B⟩" in refused.content.decode()
    assert accepted.status_code == 302
    assert not Group.objects.filter(name__startswith="ai-agents\u200b").exists()


def test_guided_set_up_leads_to_a_connection_that_is_there(administrator: Client) -> None:
    administrator.post(reverse("admin:gateway_connection_add"), CONNECTION)

    refused = administrator.post(reverse("console:connect"), {"name": "clinic", "host": "db", "password": "canary"})

    assert reverse("console:connect-change", args=["clinic"]) in refused.content.decode()
    assert b"canary" not in refused.content


def test_change_and_removal_record_before_and_after(administrator: Client) -> None:
    administrator.post(reverse("admin:gateway_connection_add"), CONNECTION)
    row = Connection.objects.get()
    changed = {**CONNECTION, "database": "other", "secret": ""}

    administrator.post(reverse("admin:gateway_connection_change", args=[row.pk]), changed)
    administrator.post(
        reverse("admin:gateway_connection_changelist"),
        {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"},
    )

    _, change, removal = changes()
    assert '"after":{"database":"other"' in change
    assert '"before":{"database":"clinic"' in change
    assert '"after":null' in removal
    assert current_version() >= 3


def test_masking_rules_and_memberships_are_recorded_too(administrator: Client) -> None:
    administrator.post(
        reverse("admin:masking_maskingrule_add"),
        {
            "name": "ssn",
            "connections": "clinic",
            "columns": "public.patients.ssn",
            "technique": "redact",
            "inference": "guarded",
            "exempt_groups": "",
            "data_class": "",
            "keep": "4",
            "priority": "100",
        },
    )
    assert MaskingRule.objects.count() == 1
    group = Group.objects.create(name="privacy-officers")
    user = User.objects.create_user("reviewer", is_staff=True)

    administrator.post(
        reverse("admin:auth_user_change", args=[user.pk]),
        {
            "username": "reviewer",
            "is_active": "on",
            "groups": [group.pk],
            "date_joined_0": "2026-01-01",
            "date_joined_1": "00:00:00",
        },
    )

    rule, membership = changes()
    assert '"technique":"redact"' in rule
    assert '"groups":["privacy-officers"]' in membership
    assert "password" not in membership


def test_auditor_reads_everything_and_changes_nothing(auditor: Client) -> None:
    Connection.objects.create(name="c", host="127.0.0.1", port=1, database="d", username="u", tls="disable")
    row = Connection.objects.get()

    assert auditor.get(reverse("admin:gateway_connection_change", args=[row.pk])).status_code == 200
    for page in ("gateway_connection", "gateway_agent", "masking_maskingrule", "approvals_policy", "auth_user"):
        assert auditor.get(reverse(f"admin:{page}_changelist")).status_code == 200
        assert auditor.get(reverse(f"admin:{page}_add")).status_code == 403
    for path in ("change", "delete"):
        address = reverse(f"admin:gateway_connection_{path}", args=[row.pk])
        assert auditor.post(address, {**CONNECTION, "post": "yes"}).status_code == 403
    assert Connection.objects.get().database == "d"


def test_administrator_without_superuser_rights_cannot_take_them(db: None) -> None:
    root = User.objects.create_superuser("root", password="root-password")
    user = User.objects.create_user("it", is_staff=True)
    user.groups.add(Group.objects.get(name="administrators"))
    client = signed_in(user)
    form = {
        "username": "it",
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
        "groups": [Group.objects.get(name="administrators").pk],
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
    }

    assert client.post(reverse("admin:auth_user_change", args=[user.pk]), form).status_code == 302

    user.refresh_from_db()
    assert user.is_superuser is False
    passwords = {"password1": "a-new-pass-9", "password2": "a-new-pass-9", "usable_password": "true"}
    assert client.post(reverse("admin:auth_user_password_change", args=[root.pk]), passwords).status_code == 403
    root.refresh_from_db()
    assert root.check_password("root-password")


def test_password_change_is_recorded(administrator: Client) -> None:
    user = User.objects.create_user("reviewer", password="before-9")
    passwords = {"password1": "canary-pass-9", "password2": "canary-pass-9", "usable_password": "true"}

    response = administrator.post(reverse("admin:auth_user_password_change", args=[user.pk]), passwords)

    assert response.status_code == 302
    entry = LogEntry.objects.get(kind="person.password_changed")
    assert b'"account":"reviewer"' in bytes(entry.canonical)
    assert b"canary" not in bytes(entry.canonical)


def test_new_client_secret_is_shown_once_and_stored_hashed(administrator: Client) -> None:
    agent = Agent.objects.create(name="a", client_id="a", owner=User.objects.get(username="admin"))

    response = administrator.post(
        reverse("admin:gateway_agent_changelist"), {"action": "new_client_secret", "_selected_action": [agent.pk]}
    )

    secret = response.context["secret"]
    assert secret.encode() in response.content
    assert secret not in str(list(agent.client_secrets.values()))
    assert "no-store" in response["Cache-Control"]


def test_revoking_tokens_is_recorded(administrator: Client) -> None:
    agent = Agent.objects.create(name="a", client_id="a", owner=User.objects.get(username="admin"))

    administrator.post(
        reverse("admin:gateway_agent_changelist"), {"action": "revoke_tokens", "_selected_action": [agent.pk]}
    )

    agent.refresh_from_db()
    assert agent.revoked_before is not None
    assert '"revoked_before":null' in changes()[-1]


def test_agents_list_takes_few_queries(administrator: Client, django_assert_max_num_queries: Any) -> None:
    owner = User.objects.get(username="admin")
    Agent.objects.bulk_create(Agent(name=f"a{n}", client_id=f"a{n}", owner=owner) for n in range(50))

    with django_assert_max_num_queries(12):
        administrator.get(reverse("admin:gateway_agent_changelist"))


def test_sign_ins_are_recorded_the_failed_ones_too(db: None) -> None:
    User.objects.create_superuser("admin", password="right-canary")
    client = Client()

    client.post(reverse("admin:login"), {"username": "admin", "password": "wrong-canary"})
    client.post(reverse("admin:login"), {"username": "admin", "password": "right-canary"})

    kinds = list(LogEntry.objects.order_by("seq").values_list("kind", flat=True))
    assert kinds == ["authentication.failed", "person.signed_in"]
    assert not any(b"canary" in bytes(entry.canonical) for entry in LogEntry.objects.all())


def test_login_page_leads_to_an_external_provider_when_there_is_one(db: None, settings: Any) -> None:
    assert b"Sign in with your organisation" not in Client().get(reverse("admin:login")).content
    settings.HOOPWEB_OIDC_EMBEDDED = False

    assert b"Sign in with your organisation" in Client().get(reverse("admin:login")).content


def test_landing_leads_to_the_console(db: None) -> None:
    assert Client().get("/")["Location"] == "/admin/"
