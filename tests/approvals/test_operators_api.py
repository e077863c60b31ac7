"""Policies, channels and deliveries over REST: for those who see them in the console, and for nobody else."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission

from approvals.domain.policies import save_policy
from approvals.models import Channel, Delivery, Policy, Review, Vote
from tests.approvals.factories import AGENT, held, person
from tests.approvals.test_api import api

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
BETTER = "UPDATE patients SET phone = NULL WHERE id = 7"
READS = ("view_policy", "view_policyversion", "view_channel", "view_delivery")


@pytest.fixture
def operator(db):
    user = person("operator")
    known = Permission.objects.filter(codename__in=[*READS, "change_channel", "change_delivery"])
    user.user_permissions.set(known.filter(content_type__app_label="approvals"))
    return user


@pytest.fixture
def channel(db):
    return Channel.objects.create(name="siem", kind="webhook", url="https://siem.example.org/secret-path")


def message(channel, **known):
    return Delivery.objects.create(channel=channel, event="review.opened", payload={"subject": "CANARY"}, **known)


@pytest.mark.parametrize("address", ["policies", "channels", "deliveries"])
def test_only_operators_look(address, operator, reviewer):
    assert api(operator).get(f"/api/v1/{address}").status_code == 200
    assert api(reviewer).get(f"/api/v1/{address}").status_code == 404
    assert api(operator, AGENT).get(f"/api/v1/{address}").status_code == 403


def test_policies_name_their_version_and_author(operator):
    policy = Policy(name="phi", connections=["clinic"], action="deny", when={"operation": ["write"]})
    save_policy(policy=policy, author="ann")
    policy.enabled = False
    save_policy(policy=policy, author="ben")

    (told,) = api(operator).get("/api/v1/policies").json()

    assert (told["name"], told["version"], told["author"], told["enabled"]) == ("phi", 2, "ben", False)
    assert told["when"] == {"operation": ["write"]}


def test_channels_tell_their_light_and_nothing_secret(operator, channel):
    message(channel, about="a", state="dead", problem="answered 500", tried_at="2026-01-01T00:00Z")

    answer = api(operator).get("/api/v1/channels")

    assert [(c["name"], c["light"], c["given_up"], c["problem"]) for c in answer.json()] == [
        ("siem", "failing", 1, "answered 500")
    ]
    assert "secret-path" not in answer.text


def test_what_was_given_up_is_found_and_sent_again(operator, channel):
    dead, done = message(channel, about="a", state="dead"), message(channel, about="b", state="delivered")

    listed = api(operator).get("/api/v1/deliveries", {"state": "dead", "channel": "siem"})
    again = api(operator).post(f"/api/v1/deliveries/{dead.pk}/send-again")
    api(operator).post(f"/api/v1/deliveries/{done.pk}/send-again")

    assert [row["id"] for row in listed.json()["results"]] == [str(dead.pk)]
    assert "CANARY" not in listed.text
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    assert Delivery.objects.get(pk=done.pk).state == "delivered"


def test_looking_alone_sends_nothing(operator, channel):
    operator.user_permissions.set(Permission.objects.filter(codename__in=READS))
    dead = message(channel, about="a", state="dead")

    assert api(operator).post(f"/api/v1/deliveries/{dead.pk}/send-again").status_code == 404
    assert api(operator).post("/api/v1/channels/siem/test").status_code == 404
    assert Delivery.objects.get().state == "dead"


def test_channel_is_tested(operator, channel):
    answer = api(operator).post("/api/v1/channels/siem/test")

    assert (answer.status_code, answer.json()["event"]) == (202, "channel.test")
    assert api(operator).post("/api/v1/channels/none/test").status_code == 404


# --- A reviewer's text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("risk", "another"), [(59, False), (60, True)])
def test_changed_text_is_analysed_and_nothing_stored(risk, another, reviewer, data_plane):
    data_plane.risk = risk
    review = held()

    answer = api(reviewer).post(f"/api/v1/reviews/{review.pk}/analysis", {"statement": BETTER}, format="json").json()

    assert (answer["risk"], answer["decision"], answer["confirmed_by_another"]) == (risk, "allow", another)
    assert answer["facts"]["tables_written"] == ["public.patients"]
    assert not Vote.objects.exists()
    assert Review.objects.get().round == 1


@pytest.mark.parametrize(
    ("text", "code"), [("DROP TABLE patients", "modified-denied"), ("a\u202eb", "hidden-characters")]
)
def test_text_that_may_not_run_is_a_problem(text, code, reviewer):
    answer = api(reviewer).post(f"/api/v1/reviews/{held().pk}/analysis", {"statement": text}, format="json")

    assert answer.json()["code"] == code


def test_nobody_else_has_texts_analysed(reviewer, admin):
    """It asks the database as the requester: not for the human behind the agent, not for auditors, not for agents."""
    address = f"/api/v1/reviews/{held().pk}/analysis"
    body = {"statement": BETTER}

    assert api(reviewer).post(address, body, format="json").status_code == 200  # control
    assert api(admin).post(address, body, format="json").json()["code"] == "self-approval"
    assert api(person("auditor", "auditors")).post(address, body, format="json").json()["code"] == "not-reviewer"
    assert api(person("outsider")).post(address, body, format="json").status_code == 404
    assert api(reviewer, AGENT).post(address, body, format="json").status_code == 403
