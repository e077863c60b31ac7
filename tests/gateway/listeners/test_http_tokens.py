"""`/v1/token` on the data plane's port: what it answers, to whom, and for which targets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User

from gateway.domain.clients import set_client_secret
from gateway.domain.identity import TokenVerifier
from gateway.domain.token_service import TOKEN_EXCHANGE
from gateway.domain.tokens import issue_agent_token
from gateway.listeners.http import build_app
from gateway.listeners.http_tokens import TokenEndpoint
from gateway.models import Agent

JWT = "urn:ietf:params:oauth:token-type:jwt"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent() -> Agent:
    owner = User.objects.create(username="owner")
    return Agent.objects.create(name="agent-7", groups=["ai-agents"], owner=owner, client_id="agent-7")


def client(*, address: str = "127.0.0.1", plaintext_on_loopback: bool = True) -> httpx.AsyncClient:
    endpoint = TokenEndpoint(verifier=TokenVerifier(), plaintext_on_loopback=plaintext_on_loopback)
    transport = httpx.ASGITransport(build_app(endpoint.routes()), client=(address, 40_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8010")


def exchange(token: str, **more: str) -> dict[str, str]:
    return {"grant_type": TOKEN_EXCHANGE, "subject_token": token, "subject_token_type": JWT, **more}


async def in_thread(function: object, *args: object) -> object:
    from gateway.domain.threads import in_thread as run

    return await run(function, *args)  # type: ignore[arg-type]


async def test_exchange_gives_a_token_of_ten_minutes(agent: Agent, settings: object) -> None:
    token = await in_thread(issue_agent_token, agent)

    async with client() as http:
        answer = await http.post("/v1/token", data=exchange(str(token), audience="http://127.0.0.1:8010"))

    assert answer.status_code == 200
    assert answer.json()["expires_in"] >= 600
    assert answer.headers["cache-control"] == "no-store"


async def test_a_token_of_a_file_keeps_its_last_newline(agent: Agent) -> None:
    """Whoever writes a token with `>` writes a newline, and google-auth sends the file as it is."""
    token = await in_thread(issue_agent_token, agent)

    async with client() as http:
        answer = await http.post("/v1/token", data=exchange(f"{token}\n", audience="http://127.0.0.1:8010"))

    assert answer.status_code == 200


async def test_client_secret_by_basic(agent: Agent) -> None:
    secret = await in_thread(lambda: set_client_secret(agent=agent))

    async with client() as http:
        right = await http.post("/v1/token", data={"grant_type": "client_credentials"}, auth=("agent-7", str(secret)))
        wrong = await http.post("/v1/token", data={"grant_type": "client_credentials"}, auth=("agent-7", "guess"))

    assert right.status_code == 200
    assert wrong.status_code == 401
    assert wrong.json()["error"] == "invalid_client"


@pytest.mark.parametrize("name", ["audience", "resource"])
async def test_token_for_another_service_is_refused(agent: Agent, name: str) -> None:
    token = await in_thread(issue_agent_token, agent)

    async with client() as http:
        answer = await http.post("/v1/token", data=exchange(str(token), **{name: "https://elsewhere.example.org"}))

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_target"


async def test_connection_of_this_gateway_is_a_target(agent: Agent) -> None:
    token = await in_thread(issue_agent_token, agent)

    async with client() as http:
        form = exchange(str(token), audience="http://127.0.0.1:8010/c/warehouse")
        answer = await http.post("/v1/token", data=form)

    assert answer.status_code == 200


async def test_secrets_do_not_cross_a_network_in_plaintext(agent: Agent) -> None:
    token = await in_thread(issue_agent_token, agent)

    async with client(address="192.0.2.7") as far, client(plaintext_on_loopback=False) as near:
        refused = [await http.post("/v1/token", data=exchange(str(token))) for http in (far, near)]

    assert [answer.status_code for answer in refused] == [400, 400]
    assert {answer.json()["error"] for answer in refused} == {"invalid_request"}


async def test_repeated_and_oversized_forms_are_refused() -> None:
    async with client() as http:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        twice = await http.post("/v1/token", content="grant_type=a&grant_type=b", headers=headers)
        large = await http.post("/v1/token", content=b"x=" + b"y" * 70_000, headers=headers)

    assert (twice.status_code, large.status_code) == (400, 413)


async def test_caller_who_leaves_before_the_form_is_there_breaks_nothing() -> None:
    """Unhandled, each writes a traceback into the log, and needs no credential for it."""
    endpoint = TokenEndpoint(verifier=TokenVerifier(), plaintext_on_loopback=True)
    request = {"method": "POST", "path": "/v1/token", "scheme": "http", "query_string": b"", "headers": []}
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await build_app(endpoint.routes())({"type": "http", **request}, receive, send)

    assert sent[0]["status"] == 499


async def test_metadata_names_this_port() -> None:
    async with client() as http:
        server = (await http.get("/.well-known/oauth-authorization-server")).json()
        resource = (await http.get("/.well-known/oauth-protected-resource")).json()

    assert server["token_endpoint"].endswith("/v1/token")
    assert resource["authorization_servers"] == [server["issuer"]]


async def test_endpoint_that_is_not_on_the_table_does_not_exist() -> None:
    async with client() as http:
        assert (await http.get("/v1/token/other")).status_code == 404
        assert (await http.get("/v1/token")).status_code == 405
