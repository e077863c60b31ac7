"""Who may do what over REST, and that every refusal is a problem document."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.session_counts import count_sessions
from audit.models import LogEntry
from gateway.domain.revocation import revoke_agent
from gateway.domain.tickets import redeem_ticket
from gateway.domain.tokens import issue_agent_token, issuer_url, sign_delegated_token
from gateway.session.context import new_id
from tests.gateway.api.conftest import Cast, bearer


def opened_session(subject: str) -> str:
    session_id = new_id()
    body = {
        "subject": subject,
        "actor": None,
        "owner": "admin",
        "connection": "clinic",
        "protocol": "postgres",
        "issuer": issuer_url(),
        "groups": [],
        "auth_method": "oidc",
    }
    append_entries([Entry(kind="session.opened", session_id=session_id, body=body)])
    return session_id


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/api/v1/connections"),
        ("get", "/api/v1/sessions"),
        ("post", "/api/v1/tickets"),
        ("post", "/api/v1/tokens"),
        ("post", "/api/v1/connections/clinic/statements"),
        ("get", "/api/v1/statements/0199aaaa-0000-7000-8000-000000000000"),
    ],
)
def test_anonymous_is_401_with_a_problem_document(cast: Cast, method: str, path: str) -> None:
    response = getattr(APIClient(), method)(path)

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Bearer realm="hoopweb"'
    assert response.json()["code"] == "not-authenticated"


def test_bad_token_is_401_and_recorded_without_the_token(cast: Cast) -> None:
    response = bearer("ey.canary.token").get("/api/v1/connections")

    assert (response.status_code, response.json()["code"]) == (401, "authentication-failed")
    entry = LogEntry.objects.get(kind="authentication.failed")
    assert b"canary" not in bytes(entry.canonical)


def test_revoked_agent_is_refused_at_once(cast: Cast) -> None:
    client = cast.client("agent")
    assert client.get("/api/v1/connections").status_code == 200

    revoke_agent(agent=cast.agent)

    assert client.get("/api/v1/connections").status_code == 401


def test_connections_are_those_an_access_rule_opens(cast: Cast) -> None:
    assert cast.client("agent").get("/api/v1/connections").json() == [
        {"name": "clinic", "kind": "postgres", "phi": True, "operations": ["read", "write"]}
    ]
    assert cast.client("reviewer").get("/api/v1/connections").json() == []


def test_ticket_is_bought_and_redeemed(cast: Cast) -> None:
    response = cast.client("agent").post("/api/v1/tickets", {"connection": "clinic"}, format="json")

    assert (response.status_code, response["Cache-Control"]) == (201, "no-store")
    bought = response.json()
    principal = redeem_ticket(secret=bought["ticket"], user=bought["username"], connection="clinic")
    assert principal is not None
    assert principal.subject == "demo-agent"


def test_ticket_for_a_closed_connection_is_404(cast: Cast) -> None:
    response = cast.client("reviewer").post("/api/v1/tickets", {"connection": "clinic"}, format="json")

    assert response.status_code == 404


def test_bearer_token_cannot_buy_its_successor(cast: Cast) -> None:
    assert cast.client("agent").post("/api/v1/tokens").status_code == 403
    assert cast.client("admin").post("/api/v1/tokens").status_code == 403
    signed_in = Client()
    signed_in.force_login(cast.admin, backend="django.contrib.auth.backends.ModelBackend")

    response = signed_in.post("/api/v1/tokens")

    assert response.status_code == 201
    assert bearer(response.json()["token"]).get("/api/v1/connections").status_code == 200


def test_cookie_needs_csrf(cast: Cast) -> None:
    signed_in = Client(enforce_csrf_checks=True)
    signed_in.force_login(cast.admin, backend="django.contrib.auth.backends.ModelBackend")

    assert signed_in.post("/api/v1/tokens").status_code == 403


@pytest.mark.parametrize(
    ("who", "seen"), [("agent", {"demo-agent"}), ("reviewer", set()), ("auditor", {"demo-agent", "other"})]
)
def test_sessions_seen_are_ones_own_or_all_for_auditors(cast: Cast, who: str, seen: set[str]) -> None:
    opened_session("demo-agent")
    opened_session("other")

    response = cast.client(who).get("/api/v1/sessions")

    assert {session["subject"] for session in response.json()["results"]} == seen


def test_agent_acting_for_a_person_sees_and_ends_only_what_it_did_itself(cast: Cast) -> None:
    own = opened_session("reviewer")
    delegated = sign_delegated_token(
        subject="reviewer",
        subject_issuer=issuer_url(),
        groups=frozenset(),
        agent=cast.agent,
        ttl_s=60,
        not_after=None,
    )
    assert cast.client("reviewer").get(f"/api/v1/sessions/{own}").status_code == 200

    acting = bearer(delegated.text)

    assert acting.get("/api/v1/sessions").json()["results"] == []
    assert acting.get(f"/api/v1/sessions/{own}").status_code == 404
    assert acting.post(f"/api/v1/sessions/{own}/kill").status_code == 404


@pytest.mark.parametrize(("who", "status"), [("agent", 202), ("admin", 202), ("auditor", 403), ("reviewer", 404)])
def test_sessions_are_ended_by_their_principal_or_an_administrator(cast: Cast, who: str, status: int) -> None:
    session_id = opened_session("demo-agent")

    response = cast.client(who).post(f"/api/v1/sessions/{session_id}/kill")

    assert response.status_code == status
    recorded = LogEntry.objects.filter(kind="session.kill_requested", session_id=session_id)
    assert recorded.exists() is (status == 202)


@pytest.mark.parametrize(
    ("method", "address", "detail"),
    [
        ("get", "/api/v1/sessions/nothing", "there is no such session for you"),
        ("post", "/api/v1/sessions/nothing/kill", "there is no such session for you"),
        (
            "get",
            "/api/v1/reviews/00000000-0000-0000-0000-000000000000",
            "there is nothing of this name or id for you",
        ),
    ],
)
def test_what_is_not_there_is_said_in_words_of_the_api(cast: Cast, method: str, address: str, detail: str) -> None:
    response = getattr(cast.client("admin"), method)(address)

    assert (response.status_code, response.json()["code"]) == (404, "not-found")
    assert response.json()["detail"] == detail


def test_sessions_list_is_paged_in_few_queries(cast: Cast, django_assert_max_num_queries: Any) -> None:
    for _ in range(60):
        opened_session("demo-agent")
    count_sessions()
    client = cast.client("auditor")

    with django_assert_max_num_queries(14):
        page = client.get("/api/v1/sessions").json()

    assert len(page["results"]) == 50
    assert len(client.get(page["next"]).json()["results"]) == 10


def test_session_detail_and_unknown_session(cast: Cast) -> None:
    session_id = opened_session("demo-agent")

    assert cast.client("agent").get(f"/api/v1/sessions/{session_id}").json()["statement_records"] == []
    assert cast.client("agent").get(f"/api/v1/sessions/{new_id()}").json()["code"] == "not-found"


def test_expired_agent_is_refused(cast: Cast) -> None:
    token = issue_agent_token(cast.agent)
    cast.agent.expires_at = timezone.now()
    cast.agent.save()

    assert bearer(token).get("/api/v1/connections").status_code == 401
