"""`/mcp` on the running product, through the SDK's client: discovery, tools, masks, holds, denials, other people's."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import psycopg
import pytest
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from tests.gateway.mcp.client import call, connected, endpoint
from tests.stack import Stack

# New with every run: a held statement that was decided once is not held again in the same words.
UNIQUE = time.time_ns() % 1_000_000
HELD = f"update patients set phone = '(555) {UNIQUE:07d}' where id = 77"


class Memory:
    """Where the SDK keeps its token between calls."""

    tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise AssertionError("no client is registered dynamically")


def raw(stack: Stack, token: str | None) -> httpx.Response:
    headers = {"Accept": "application/json, text/event-stream"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    return httpx.post(endpoint(stack), json=message, headers=headers, timeout=60, trust_env=False)


def token_for(stack: Stack, resource: str) -> httpx.Response:
    agent = stack.demo["agents"]["demo-agent"]
    form = {"grant_type": "client_credentials", "resource": resource}
    return httpx.post(
        f"{stack.demo['web_url']}/oauth/token",
        data=form,
        auth=(agent["client_id"], agent["client_secret"]),
        trust_env=False,
        timeout=60,
    )


def ssn_of(stack: Stack, patient: int) -> str:
    with stack.direct() as direct:
        row = direct.execute("select ssn from patients where id = %s", (patient,)).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("token", [None, "not-a-token", "a.b.c"])
def test_request_without_a_good_token_is_pointed_to_the_metadata(stack: Stack, token: str | None):
    answer = raw(stack, token)

    assert answer.status_code == 401
    location = f"{stack.demo['web_url']}/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="{location}"' in answer.headers["www-authenticate"]
    described = httpx.get(location, trust_env=False, timeout=60).json()
    assert (described["resource"], described["authorization_servers"]) == (endpoint(stack), [stack.demo["web_url"]])
    server = httpx.get(
        f"{stack.demo['web_url']}/.well-known/oauth-authorization-server", trust_env=False, timeout=60
    ).json()
    assert server["issuer"] == described["authorization_servers"][0]


@pytest.mark.parametrize("more", [{}, {"Mcp-Session-Id": "a" * 32}, {"Last-Event-ID": "5"}])
def test_no_stream_stands_open_and_none_is_resumed(stack: Stack, more: dict[str, str]):
    """It would outlive the token it was opened with."""
    headers = {"Accept": "text/event-stream", **more}
    own = {**headers, "Authorization": f"Bearer {stack.agent_token()}"}

    with httpx.stream("GET", endpoint(stack), headers=own, timeout=60, trust_env=False) as answer:
        assert (answer.status_code, answer.headers.get("allow")) == (405, "POST")
    assert httpx.get(endpoint(stack), headers=headers, timeout=60, trust_env=False).status_code == 401


async def test_client_discovers_the_authorization_server_and_gets_a_token_for_this_endpoint_alone(stack: Stack):
    agent, memory = stack.demo["agents"]["demo-agent"], Memory()
    auth = ClientCredentialsOAuthProvider(
        endpoint(stack), memory, agent["client_id"], agent["client_secret"], issuer=stack.demo["web_url"]
    )

    async with connected(stack, auth=auth) as client:
        listed = await call(client, "list_connections")

    assert "clinic" in {found["name"] for found in listed["connections"]}
    assert memory.tokens is not None
    narrow = memory.tokens.access_token
    assert raw(stack, narrow).status_code != 401  # a control: it is good here …
    assert stack.rest("GET", "/api/v1/connections", token=narrow).status_code == 401  # … and nowhere else
    with pytest.raises(Exception, match=r"password|authentication"):
        stack.connect(token=narrow)
    assert token_for(stack, "https://elsewhere.example/mcp").json()["error"] == "invalid_target"


async def test_no_tool_decides_and_each_says_what_it_changes(stack: Stack):
    async with connected(stack) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    assert set(tools) == {
        "list_connections", "list_schemas", "describe_table", "query", "explain", "request_access", "wait_for_review",
    }  # fmt: skip
    read_only = {name for name, tool in tools.items() if tool.annotations and tool.annotations.read_only_hint}
    assert set(tools) - read_only == {"query", "request_access"}
    assert all(tool.output_schema for tool in tools.values())


async def test_tables_are_described_with_what_would_be_masked(stack: Stack):
    async with connected(stack) as client:
        listed = await call(client, "list_schemas", connection="clinic")
        described = await call(client, "describe_table", connection="clinic", table="public.patients")
        missing = await call(client, "describe_table", connection="clinic", table="public.nowhere")

    by_name = {table["name"]: table for table in listed["tables"]}
    assert by_name["patients"]["read"]["action"] == "allow"
    columns = {column["name"]: column for column in described["tables"][0]["columns"]}
    assert (columns["ssn"]["state"], columns["ssn"]["rule"]) == ("masked", "ssn")
    assert (columns["dob"]["state"], columns["dob"]["technique"]) == ("masked", "year")
    assert columns["state"]["state"] in {"clear", "searched"}
    assert described["tables"][0]["read_all"]["action"] == "require_approval"
    assert described["tables"][0]["change"]["rule"] == "phi-writes"
    assert missing["problem"]["code"] == "not-described"


async def test_query_returns_masked_rows_and_says_which(stack: Stack):
    clear = ssn_of(stack, 5)

    async with connected(stack) as client:
        answer = await call(
            client,
            "query",
            connection="clinic",
            statement="select id, ssn, state from patients where id = $1",
            parameters=[5],
        )

    assert answer["status"] == "completed"
    assert [(column["masked"], column["rule"]) for column in answer["columns"][:2]] == [(False, None), (True, "ssn")]
    assert answer["rows"][0][0] == 5
    assert clear not in json.dumps(answer)


async def test_more_rows_than_asked_for_are_left_out_and_said_so(stack: Stack):
    statement = "select id from patients where id <= 20 order by id"

    async with connected(stack) as client:
        answer = await call(client, "query", connection="clinic", statement=statement, max_rows=3)

    assert (answer["rows"], answer["row_count"], answer["truncated"]) == ([[1], [2], [3]], 20, True)


async def test_denial_is_machine_readable(stack: Stack):
    async with connected(stack) as client:
        raw_answer = await client.call_tool("query", {"connection": "clinic", "statement": "drop table patients"})
        elsewhere = await call(client, "query", connection="nowhere", statement="select 1")

    assert raw_answer.is_error
    problem = raw_answer.structured_content["problem"]
    assert problem["rule"] == "access"
    assert problem["reason"]
    assert problem["permitted_alternative"]
    assert elsewhere["problem"]["code"] == "no-connection"


async def test_explain_says_decision_masks_and_cost_without_running(stack: Stack):
    async with connected(stack) as client:
        allowed = await call(
            client, "explain", connection="clinic", statement="select state, ssn from patients order by id limit 5"
        )
        held = await call(client, "explain", connection="clinic", statement="select ssn from patients")

    assert (allowed["action"], allowed["cost"]["row_bound"]) == ("allow", 5)
    assert {"column": "ssn", "rule": "ssn", "technique": "redact"} in allowed["masked"]
    assert (held["action"], held["permitted_alternative"]) == ("require_approval", "add LIMIT 1000 or less")


async def test_held_statement_is_resumed_by_its_id_after_a_decision(stack: Stack):
    async with connected(stack) as client:
        pending = await call(client, "query", connection="clinic", statement=HELD)
        still = await call(client, "wait_for_review", statement_id=pending["statement_id"], wait_s=0)
        waiting = asyncio.create_task(call(client, "wait_for_review", statement_id=pending["statement_id"], wait_s=60))
        decided = await asyncio.to_thread(
            stack.rest,
            "POST",
            f"/api/v1/reviews/{pending['review']['id']}/decision",
            user="reviewer",
            json={"decision": "approve", "reason": "checked with the ward"},
        )
        done = await waiting

    assert (pending["status"], still["status"]) == ("pending", "pending")
    assert pending["review"]["url"].startswith(stack.demo["web_url"])
    assert decided.status_code == 200, decided.text
    assert (done["status"], done["command_tag"]) == ("completed", "UPDATE 1")
    with stack.direct() as direct:
        row = direct.execute("select phone from patients where id = 77").fetchone()
    assert row == (f"(555) {UNIQUE:07d}",)


async def test_statement_of_another_principal_is_not_there(stack: Stack):
    admin = stack.demo["users"]["admin"]["token"]
    async with connected(stack) as client:
        answer = await call(client, "query", connection="clinic", statement="select count(*) from patients")
    async with connected(stack, token=admin) as client:
        stolen = await call(client, "wait_for_review", statement_id=answer["statement_id"], wait_s=0)

    assert answer["status"] == "completed"
    assert stolen["problem"]["code"] == "no-statement"


async def test_request_for_access_opens_a_review_or_is_filed(stack: Stack):
    reason = "correcting a phone number the patient reported"
    statement = f"update patients set phone = '(556) {UNIQUE:07d}' where id = 78"

    async with connected(stack) as client:
        asked = await call(client, "request_access", connection="clinic", statement=statement, reason=reason)
        filed = await call(client, "request_access", connection="clinic", statement="drop table claims", reason=reason)
        free = await call(client, "request_access", connection="clinic", statement="select 1", reason=reason)

    assert (asked["status"], asked["review"]["url"].startswith("http")) == ("pending", True)
    assert (filed["status"], filed["problem"]["rule"]) == ("filed", "access")
    assert free["status"] == "permitted"
    denied = stack.rest(
        "POST",
        f"/api/v1/reviews/{asked['review']['id']}/decision",
        user="reviewer",
        json={"decision": "deny", "reason": "not the right number"},
    )
    assert denied.status_code == 200
    async with connected(stack) as client:
        ended = await call(client, "wait_for_review", statement_id=asked["statement_id"], wait_s=30)
    assert (ended["status"], ended["problem"]["code"]) == ("denied", "review-denied")


async def test_arguments_out_of_bounds_are_errors_and_reach_no_database(stack: Stack):
    async with connected(stack) as client:
        answer = await client.call_tool("query", {"connection": "clinic", "statement": "select 1", "max_rows": 10**9})

    assert answer.is_error


async def test_reason_and_statement_of_a_request_are_in_no_log_and_no_entry_body(stack: Stack):
    canary = f"canary{UNIQUE}reason"
    async with connected(stack) as client:
        await call(
            client,
            "request_access",
            connection="clinic",
            statement=f"drop table canary{UNIQUE}table",
            reason=f"because of {canary}",
        )
        await client.call_tool("query", {"connection": "clinic", "statement": {"not": f"canary{UNIQUE}argument"}})

    with psycopg.connect(stack.demo["control_dsn"]) as control:
        newest = control.execute(
            "select convert_from(canonical, 'UTF8') from audit_logentry"
            " where kind = 'access.requested' order by seq desc limit 1"
        ).fetchone()
    assert newest is not None
    assert '"demo-agent"' in newest[0]
    assert f"canary{UNIQUE}" not in newest[0]
    assert f"canary{UNIQUE}" not in "".join(path.read_text(errors="replace") for path in stack.home.glob("*.log"))
