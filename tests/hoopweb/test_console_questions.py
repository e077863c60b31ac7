"""The console's own pages: who may ask why something was denied, what it shows, and the policy every answer carries."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from approvals.models import Policy
from audit.domain.append import append_entries
from audit.domain.entry import Entry
from gateway.domain.tokens import issuer_url
from hoopweb.csp import HEADER, STRICT, THEMED

DENIED = "01a1f9dc-9084-724b-bb20-249de2c5d088"
WHO = {"subject": "demo-agent", "actor": None, "owner": "carol", "connection": "clinic", "protocol": "rest"}
CANARY = "select ssn from patients where ssn = '900-11-2233'"


def signed_in(name: str, *groups: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def denial(db: None) -> None:
    Policy.objects.create(
        name="no-ssn",
        connections=["clinic"],
        when={"touches_phi": True},
        action="deny",
        description="nobody reads SSNs",
    )
    body = {
        **WHO,
        "kind": "SELECT",
        "operations": ["read"],
        "tables_read": ["public.patients"],
        "classes": ["ssn"],
        "decision": "deny",
        "rule": "no-ssn",
        "code": "policy-denied",
        "policies": ["no-ssn@1"],
        "snapshot": 7,
        "reason": "policy no-ssn denies read statements with protected data",
        "permitted_alternative": "leave out the protected columns",
    }
    append_entries(
        [
            Entry(
                kind="session.opened", session_id="s1", body={**WHO, "issuer": "https://idp", "groups": ["ai-agents"]}
            ),
            Entry(
                kind="statement.denied",
                session_id="s1",
                statement_id=DENIED,
                body=body,
                sensitive={"statement": CANARY},
            ),
        ]
    )


def asked(client: Client) -> str:
    answer = client.get(reverse("console:why"), {"statement": DENIED})
    return answer.content.decode() if answer.status_code == 200 else ""


@pytest.mark.parametrize("groups", [["auditors"], ["administrators"]])
def test_page_says_rule_inputs_and_alternative_without_the_text(denial: None, groups: list[str]):
    page = asked(signed_in("dana", *groups))

    for told in ("no-ssn@1", "nobody reads SSNs", "leave out the protected columns", "public.patients", "ai-agents"):
        assert told in page
    assert "900-11-2233" not in page


def test_who_answers_for_the_agent_may_ask_and_strangers_learn_nothing(denial: None):
    owner, stranger = signed_in("carol"), signed_in("eve")

    assert "policy-denied" in asked(owner)
    assert asked(stranger) == ""
    other = re.sub("[0-9a-f]{4}$", "0000", DENIED)
    nothing = stranger.get(reverse("console:why"), {"statement": other})
    theirs = stranger.get(reverse("console:why"), {"statement": DENIED})
    assert (nothing.status_code, theirs.status_code) == (404, 404)
    assert nothing.content.decode().replace(other, DENIED).count("there is no such statement") == 1
    assert "demo-agent" not in theirs.content.decode()


def test_own_statements_are_read_by_name_and_issuer(denial: None):
    ann = signed_in("ann")
    who = {**WHO, "subject": "ann", "owner": None}
    ids = {issuer: f"{DENIED[:-1]}{index}" for index, issuer in enumerate([issuer_url(), "https://elsewhere.example"])}
    for issuer, statement in ids.items():
        session = f"session {issuer}"
        append_entries(
            [
                Entry(kind="session.opened", session_id=session, body={**who, "issuer": issuer, "groups": []}),
                Entry(kind="statement.denied", session_id=session, statement_id=statement, body={**who, "code": "x"}),
            ]
        )

    answers = [ann.get(reverse("console:why"), {"statement": statement}).status_code for statement in ids.values()]

    assert answers == [200, 404]


def test_names_are_shown_as_text(denial: None):
    Policy.objects.filter(name="no-ssn").update(description="<img src=x onerror=alert(1)>")

    page = asked(signed_in("dana", "auditors"))

    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


@pytest.mark.parametrize(
    ("path", "policy"), [("/admin/login/", THEMED), ("/.well-known/jwks.json", STRICT), ("/nowhere", STRICT)]
)
@pytest.mark.django_db
def test_every_answer_forbids_what_is_written_into_a_page(path: str, policy: str):
    answer = Client().get(path)

    assert answer.headers[HEADER] == policy
    assert "unsafe-inline" not in policy
    assert "<style" not in answer.content.decode()
    assert not re.search(r"\sstyle=|\son[a-z]+=\"", answer.content.decode())


@pytest.mark.parametrize("page", ["console:connect", "console:sight"])
@pytest.mark.django_db
def test_set_up_and_sight_are_for_who_may(page: str):
    address = reverse(page, args=["demo-agent"] if page == "console:sight" else [])

    assert signed_in("eve").get(address).status_code == 403
    assert Client().get(address).status_code == 302
