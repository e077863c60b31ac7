"""One document of rules over PostgreSQL and BigQuery: the same statements meet the same decisions and masks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bigquery.conftest import apply, until_served
from tests.bigquery.service import PROJECT, Service
from tests.stack import Stack

pytestmark = pytest.mark.e2e

POSTGRES, BIGQUERY = "twin-postgres", "twin-bigquery"
RULES: dict[str, Any] = {
    "apiVersion": "hoopweb/v1",
    "access": [
        {"name": "twins", "groups": ["ai-agents"], "connections": ["twin-*"], "operations": ["read", "write"]},
    ],
    "masking": [
        {"name": "twin-ssn", "connections": ["twin-*"], "columns": ["public.patients.ssn"], "technique": "redact"},
        {"name": "twin-dob", "connections": ["twin-*"], "columns": ["public.*.dob"], "technique": "year"},
    ],
    "policies": [
        {
            "name": "twin-writes",
            "connections": ["twin-*"],
            "when": {"operation": ["write"], "touches_phi": True},
            "action": "require_approval",
            "reviewers": ["privacy-officers"],
        },
        {
            "name": "twin-bulk",
            "connections": ["twin-*"],
            "when": {"touches_phi": True, "rows_over": 100},
            "action": "require_approval",
            "reviewers": ["privacy-officers"],
        },
        {
            "name": "twin-guesses",
            "connections": ["twin-*"],
            "when": {"inference": True},
            "action": "require_approval",
            "reviewers": ["privacy-officers"],
        },
    ],
}

# (statement, what becomes of it, the masked columns with their technique)
STATEMENTS = [
    ("SELECT id, ssn, state FROM public.patients LIMIT 3", "allow", {"ssn": "redact"}),
    ("SELECT ssn AS harmless FROM public.patients LIMIT 3", "allow", {"harmless": "redact"}),
    ("SELECT UPPER(ssn) AS x, dob FROM public.patients LIMIT 3", "allow", {"x": "whole", "dob": "year"}),
    ("SELECT x.y FROM (SELECT ssn AS y FROM public.patients) AS x LIMIT 3", "allow", {"y": "redact"}),
    ("WITH q AS (SELECT ssn AS s FROM public.patients) SELECT s FROM q LIMIT 3", "allow", {"s": "redact"}),
    (
        "SELECT state FROM public.patients UNION ALL SELECT ssn FROM public.patients LIMIT 3",
        "allow",
        {"state": "redact"},
    ),
    ("SELECT MAX(ssn) AS m FROM public.patients", "allow", {"m": "whole"}),
    ("SELECT COUNT(ssn) AS n FROM public.patients", "allow", {}),
    ("SELECT state, COUNT(*) AS n FROM public.patients GROUP BY state", "allow", {}),
    ("SELECT a.ssn FROM public.patients a JOIN public.patients b ON a.ssn = b.ssn LIMIT 3", "allow", {"ssn": "redact"}),
    ("SELECT id FROM public.patients WHERE ssn IS NULL LIMIT 3", "allow", {}),
    ("SELECT id FROM public.patients WHERE ssn = 'x' LIMIT 3", "require_approval", {}),
    ("SELECT id FROM public.patients WHERE ssn LIKE '1%' LIMIT 3", "require_approval", {}),
    ("SELECT CASE WHEN ssn = 'x' THEN 1 END AS c FROM public.patients LIMIT 3", "require_approval", {"c": "whole"}),
    ("SELECT ssn FROM public.patients", "require_approval", {"ssn": "redact"}),
    ("UPDATE public.patients SET state = 'XX' WHERE id = -1", "allow", {}),
    ("UPDATE public.patients SET ssn = 'x' WHERE id = -1", "require_approval", {}),
    ("DELETE FROM public.patients WHERE id = -1", "require_approval", {}),
    ("CREATE TABLE public.copied AS SELECT ssn FROM public.patients", "deny", {}),
    ("DROP TABLE public.patients", "deny", {}),
]


@pytest.fixture(scope="module")
def twins(stack: Stack, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    service.make_dataset("public")
    service.sql(
        "CREATE TABLE public.patients AS SELECT 1 AS id, '123-45-6789' AS ssn, 'CA' AS state, DATE '1950-03-07' AS dob"
    )
    directory = tmp_path_factory.mktemp("twins")
    (directory / "key.json").write_text(json.dumps(service.key), encoding="utf-8")
    upstream = stack.demo["upstream"]
    connections: list[dict[str, Any]] = [
        {
            "name": POSTGRES,
            "kind": "postgres",
            "host": upstream["host"],
            "port": int(upstream["port"]),
            "database": upstream["database"],
            "username": upstream["username"],
            "password": {"value": upstream["password"]},
            "tls": "disable",
        },
        {
            "name": BIGQUERY,
            "kind": "bigquery",
            "project": PROJECT,
            "api_endpoint": service.url,
            "credentials": {"file": "key.json"},
        },
    ]
    apply(stack, directory, {**RULES, "connections": connections})
    until_served(stack, BIGQUERY)
    yield stack
    apply(stack, directory, {**RULES, "connections": [{**each, "enabled": False} for each in connections]})
    until_served(stack, BIGQUERY, served=False)


def decided(stack: Stack, connection: str, statement: str) -> tuple[str, dict[str, str]]:
    """What would become of the statement, and what rules would mask of its result; nothing runs."""
    url = f"/api/v1/connections/{connection}/statements"
    answer = stack.rest("POST", url, json={"statement": statement, "dry_run": True})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    action = body["decision"]["action"]
    if action == "deny":
        return action, {}
    masks = {mask["column"]: mask["technique"] for mask in body["masks"]}
    return action, {column: technique for column, technique in masks.items() if technique not in ("", "scan")}


@pytest.mark.parametrize(("statement", "action", "masks"), STATEMENTS, ids=[text for text, _, _ in STATEMENTS])
@pytest.mark.by_turns(2)
def test_the_same_rules_act_the_same(twins: Stack, statement: str, action: str, masks: dict[str, str]) -> None:
    on_postgres = decided(twins, POSTGRES, statement)
    on_bigquery = decided(twins, BIGQUERY, statement)

    assert on_bigquery == on_postgres
    assert on_bigquery == (action, masks)
