"""Every URL by every role is as the table in docs/roles.md says, and an auditor's requests change nothing.

A role may open a page when it is neither refused (401, 403) nor sent to the sign-in; what is then missing (404) is not
there for anybody. Routes come from Django's own resolver, so a new one must find its row, and its row must be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from approvals.models import Policy, Review
from gateway.domain.tokens import issue_agent_token
from gateway.models import AccessRule, Agent, Connection
from masking.models import MaskingRule
from tests.stack import PROJECT

ROLES = ("anonymous", "agent", "person", "owner", "reviewer", "author", "auditor", "administrator")
GROUPS = {
    "person": [],
    "owner": ["agent-owners"],
    "reviewer": ["privacy-officers"],
    "author": ["policy-authors"],
    "auditor": ["auditors"],
    "administrator": ["administrators"],
}
# One model stands for all that are configured alike: the console's test opens every one.
_MODELS = re.compile(r"^/admin/(?!console)(\w+)/(\w+)/")
_EXAMPLES = {("gateway", "connection"), ("approvals", "policy"), ("audit", "logentry"), ("auth", "user")}
# Signing out ends the walk; Django redirects from an object that is not there before it asks who looks.
_ENDINGS = re.compile(r"logout|^/admin/(?!console)\w+/\w+/1/(history/)?$")
_FILLED = {"uuid": "01a1f9dc-9084-724b-bb20-249de2c5d088", "int": "1", "slug": "nobody", "str": "1", "path": "1"}


def routes(patterns: Any = None, prefix: str = "/") -> Iterator[str]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + _spelled(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def _spelled(route: str) -> str:
    """A path that the pattern matches; regular expressions of packages are spelled without their anchors."""
    filled = re.sub(r"<(?:(\w+):)?\w+>", lambda found: _FILLED[found[1] or "str"], route)
    return re.sub(r"[\^$?]|\(.*\)|\\[ZA]", "", filled)


def kept() -> list[str]:
    """Every route, but of models configured alike one example."""
    found = []
    for route in dict.fromkeys(routes()):
        model = _MODELS.match(route)
        if not model or model.groups() in _EXAMPLES or "/" not in route[model.end() :].rstrip("/"):
            found.append(route)
    return [route for route in found if not _ENDINGS.search(route)]


def table() -> list[tuple[re.Pattern[str], dict[str, str]]]:
    """The rows of docs/roles.md in order: the first whose pattern matches a route is its row."""
    text = (PROJECT / "docs" / "roles.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|(.+)\|$", text, re.M)
    return [
        (re.compile(pattern.replace("\\|", "|")), dict(zip(ROLES, map(str.strip, cells.split("|")), strict=False)))
        for pattern, cells in rows
    ]


def client_of(role: str) -> Client:
    if role == "anonymous":
        return Client()
    if role == "agent":
        owner = User.objects.create_user("owner")
        agent = Agent.objects.create(name="reader", groups=["ai-agents"], owner=owner, client_id="reader")
        return Client(headers={"Authorization": f"Bearer {issue_agent_token(agent)}"})
    user = User.objects.create_user(role, is_staff=True)
    user.groups.set([Group.objects.get_or_create(name=name)[0] for name in GROUPS[role]])
    if role == "owner":
        Agent.objects.create(name="reader", groups=["ai-agents"], owner=user, client_id="reader")
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def opens(client: Client, route: str) -> bool | None:
    """Whether the role may open the page; None for what takes a POST only."""
    client.raise_request_exception = False
    answer = client.get(route)
    sent_away = answer.status_code == 302 and "/login/" in answer.headers["Location"]
    assert answer.status_code < 500 or route == "/healthz", f"{route}: {answer.status_code}"
    if answer.status_code == 405:
        return None
    return not (sent_away or answer.status_code in {401, 403})


@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES)
def test_role_opens_what_the_table_says(role: str):
    client, rows = client_of(role), table()
    wrong = []
    for route in kept():
        row = next((cells for pattern, cells in rows if pattern.match(route)), None)
        may_open = opens(client, route)
        expected = "nothing: it has no row" if row is None else row[role]
        if may_open is not None and expected != ("yes" if may_open else "no"):
            wrong.append(f"{route}: opens {may_open}, the table says {expected}")

    assert wrong == []


def configuration() -> list[Any]:
    models = (Connection, AccessRule, Agent, Policy, MaskingRule, Review, Group)
    people = list(User.objects.order_by("pk").values_list("username", "is_active", "is_staff", "is_superuser"))
    members = list(User.groups.through.objects.order_by("pk").values_list("user_id", "group_id"))
    return [*(sorted(map(repr, model.objects.values())) for model in models), people, members]


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["auditor", "reviewer", "person", "owner"])
def test_whatever_who_configures_nothing_posts_no_configuration_changes(role: str):
    client = client_of(role)
    Policy.objects.create(name="holds", connections=["*"], when={"export": True}, action="deny")
    client.raise_request_exception = False
    before = configuration()
    form = {
        "name": "planted",
        "username": "planted",
        "action": "delete_selected",
        "_selected_action": "1",
        "post": "yes",
    }

    for route in kept():
        client.post(route, form)

    assert configuration() == before


@pytest.mark.django_db
def test_nobody_is_two_by_default():
    """Each role's group gives what it needs and no other's: authors decide nothing, auditors change nothing."""
    auditors, authors = (Group.objects.get(name=name) for name in ("auditors", "policy-authors"))

    granted = {name: set(group.permissions.values_list("codename", flat=True)) for name, group in
               (("auditors", auditors), ("authors", authors))}  # fmt: skip

    assert not {code for code in granted["auditors"] if code.startswith(("add_", "change_", "delete_"))}
    assert not {code for code in granted["authors"] if code.endswith(("_user", "_group", "_agent", "_connection"))
                and not code.startswith("view_")}  # fmt: skip
