"""After a save in the console: what the row comes to, where names in it are borne by nobody and nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.urls import reverse

from approvals.models import Policy
from gateway.models import AccessRule, Agent, Connection
from hoopweb.console.consequences import consequences_of
from masking.models import MaskingRule
from tests.hoopweb.test_dashboard import signed_in, statement


@pytest.fixture(autouse=True)
def clinic(db: None) -> Connection:
    return Connection.objects.create(name="clinic", kind="postgres", host="127.0.0.1", port=5432, database="c")


def rule(**fields: Any) -> AccessRule:
    return AccessRule(
        **{"name": "work", "groups": ["ai-agents"], "connections": ["clinic"], "operations": ["read"]} | fields
    )


def agent(name: str = "reader", **fields: Any) -> Agent:
    owner = User.objects.get_or_create(username="owner")[0]
    return Agent(**{"name": name, "owner": owner, "client_id": name, "groups": ["ai-agents"]} | fields)


def saved(row: Model) -> Model:
    row.save()
    return row


def test_access_rule_of_a_group_without_anybody_is_told() -> None:
    assert consequences_of(rule()) == [
        "no agent or person is in the group ai-agents yet: this rule gives it nothing until one is"
    ]

    saved(agent())

    assert consequences_of(rule()) == []
    assert consequences_of(rule(connections=["clinik"])) == ["no connection is called clinik"]


def test_agent_and_connection_without_a_rule_are_told() -> None:
    connection = Connection.objects.get()
    assert consequences_of(agent()) == ["no access rule names a group of reader: it may do nothing until one does"]
    assert consequences_of(connection) == ["no access rule names clinic: nobody may use it until one does"]

    saved(rule(connections=["clin*"]))

    assert consequences_of(agent()) == consequences_of(connection) == []


def test_policy_nobody_can_satisfy_is_told() -> None:
    policy = Policy(name="writes", connections=["*"], action="require_approval", reviewers=["officers"], quorum=2)
    User.objects.create_user("one").groups.add(Group.objects.create(name="officers"))
    assert consequences_of(policy) == [
        "the group officers has 1 of the 2 people that must approve: what this policy holds will expire"
    ]

    User.objects.create_user("two").groups.add(Group.objects.get(name="officers"))
    assert consequences_of(policy) == []

    User.objects.filter(username="two").update(is_active=False)
    assert len(consequences_of(policy)) == 1


def test_masking_rule_for_a_misspelt_column_is_told_once_traffic_knows_better() -> None:
    misspelt = MaskingRule(name="ssn", connections=["clinic"], columns=["public.patient.ssn"], technique="redact")
    assert consequences_of(misspelt) == []  # nothing was read yet: nothing is known

    statement(1, columns_read=["public.patients.ssn", "public.patients.id"])

    assert consequences_of(misspelt) == ["of 2 columns read in 7 days none is public.patient.ssn: look at its spelling"]
    misspelt.columns = ["public.patients.*"]
    assert consequences_of(misspelt) == []


def test_console_tells_after_saving_and_still_saves() -> None:
    admin = signed_in(User.objects.create_superuser("admin"))

    answer = admin.post(
        reverse("admin:gateway_accessrule_add"),
        {"name": "work", "groups": "nobodies", "connections": "clinic", "operations": ["read", "ddl"]},
        follow=True,
    )

    assert AccessRule.objects.get().operations == ["read", "ddl"]
    assert [str(message) for message in answer.context["messages"] if message.level_tag == "warning"] == [
        "No agent or person is in the group nobodies yet: this rule gives it nothing until one is."
    ]


def test_forms_say_which_names_there_are() -> None:
    saved(agent())

    page = signed_in(User.objects.create_superuser("admin")).get(reverse("admin:gateway_accessrule_add"))

    fields = page.context["adminform"].form.fields
    assert fields["groups"].help_text.endswith(
        "There are: administrators, agent-owners, ai-agents, auditors, policy-authors"
    )
    assert fields["connections"].help_text.endswith("There are: clinic")


@pytest.mark.parametrize("form", ["gateway_agent_add", "gateway_accessrule_add", "masking_maskingrule_add"])
def test_names_in_help_texts_are_text_and_nothing_hides_in_them(form: str) -> None:
    """The console's script library runs attributes of any element: `x-init` in a group's name was a script."""
    Group.objects.create(name="<b x-init='go()'>\u202eward")

    shown = signed_in(User.objects.create_superuser("admin")).get(reverse(f"admin:{form}")).content.decode()

    assert "There are: " in shown
    assert "<b x-init" not in shown
    assert "&lt;b x-init=&#x27;go()&#x27;&gt;⟨U+202E⟩ward" in shown
