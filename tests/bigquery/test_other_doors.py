"""BigQuery through the doors every kind of connection shares: MCP and WebSocket (REST is in test_governed.py)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.bigquery.conftest import CONNECTION, DATASET, SSN
from tests.gateway.mcp.client import call, connected
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("warehouse")]

TABLE = f"{DATASET}.patients"
HIDDEN = "[REDACTED]"


async def test_an_mcp_client_learns_what_is_masked_field_by_field(stack: Stack) -> None:
    async with connected(stack) as client:
        listed = await call(client, "list_schemas", connection=CONNECTION)
        described = await call(client, "describe_table", connection=CONNECTION, table=TABLE)

    names = {f"{table['schema']}.{table['name']}": table for table in listed["tables"]}
    assert names[TABLE]["read"]["action"] == "allow"
    columns = {column["name"]: column for column in described["tables"][0]["columns"]}
    told = {name: (column["state"], column["rule"]) for name, column in columns.items()}
    assert told["ssn"] == ("masked", "bq-ssn")
    assert told["contact.email"] == ("masked", "bq-email")
    assert told["contact.phone"][0] in {"clear", "searched"}
    assert told["contact"][0] == "masked"
    assert (columns["dob"]["technique"], told["ward"][0]) == ("year", "clear")


async def test_an_mcp_client_queries_and_is_told_what_it_may(stack: Stack) -> None:
    text = f"SELECT id, ssn, contact FROM {TABLE} ORDER BY id LIMIT 1"
    async with connected(stack) as client:
        found = await call(client, "query", connection=CONNECTION, statement=text)
        explained = await call(client, "explain", connection=CONNECTION, statement=text)
        denied = await call(client, "query", connection=CONNECTION, statement=f"DROP TABLE {TABLE}")

    assert SSN not in json.dumps(found)
    assert [(column["name"], column["masked"]) for column in found["columns"]] == [
        ("id", False), ("ssn", True), ("contact", True),
    ]  # fmt: skip
    assert found["rows"][0][1] == HIDDEN
    assert found["rows"][0][2]["email"] == HIDDEN
    assert {(mask["column"], mask["rule"]) for mask in explained["masked"]} >= {("ssn", "bq-ssn")}
    assert denied["problem"]["code"] == "access-denied"


def test_a_websocket_client_gets_rows_masked(stack: Stack) -> None:
    address = stack.demo["web_url"].replace("http", "ws", 1) + f"/ws/v1/connections/{CONNECTION}/"
    headers = {"Authorization": f"Bearer {stack.agent_token()}"}
    heard: list[dict[str, Any]] = []
    with connect(address, additional_headers=headers, open_timeout=60, proxy=None) as socket:
        statement = f"SELECT id, ssn FROM {TABLE} ORDER BY id LIMIT 2"
        socket.send(json.dumps({"type": "statement", "statement": statement}))
        while not heard or heard[-1].get("type") not in {"completed", "denied", "failed"}:
            heard.append(json.loads(socket.recv(timeout=60)))

    assert heard[-1]["type"] == "completed", heard
    assert SSN not in json.dumps(heard)
    assert HIDDEN in json.dumps(heard)
