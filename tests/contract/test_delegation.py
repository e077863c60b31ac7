"""An agent acting for a person, in SQL: the rights of both at once. Each refusal has the control that one of them may.

The person `reviewer` may read, and sees addresses clear. `delegate` may read and write, and sees them masked. A third,
`delegate-clear`, is spared the mask as the person is. What the demo holds or masks for everybody stays as it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from tests.stack import Stack

PERSON = "reviewer"
READ = "select email from patients where id = 5"
WRITE = "update encounters set status = status where id = -1"
JWT = "urn:ietf:params:oauth:token-type:jwt"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
SECRET = secrets.token_urlsafe(24)


def document(*, exempt: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "hoopweb/v1",
        "groups": [{"name": "cohorts", "members": [PERSON]}, {"name": "clear-readers", "members": [PERSON]}],
        "access": [
            {"name": "cohorts-read", "groups": ["cohorts"], "connections": ["clinic"], "operations": ["read"]},
            {"name": "bots-write", "groups": ["bots"], "connections": ["clinic"], "operations": ["read", "write"]},
        ],
        "agents": [
            _agent("delegate", "cohorts", "bots"),
            _agent("delegate-clear", "cohorts", "clear-readers"),
            _agent("delegate-barred", "cohorts", "barred"),
        ],
        "masking": [
            {
                "name": "email",
                "connections": ["clinic"],
                "columns": ["public.patients.email"],
                "technique": "redact",
                "inference": "guarded",
                "exempt_groups": exempt,
            }
        ],
        "policies": [
            {
                "name": "barred-bots",
                "connections": ["clinic"],
                "when": {"groups": ["barred"]},
                "action": "deny",
            }
        ],
    }


def _agent(name: str, *groups: str) -> dict[str, Any]:
    return {"name": name, "groups": list(groups), "owner": "admin", "client_secret": {"value": SECRET}}


@pytest.fixture(scope="module")
def delegates(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    path = tmp_path_factory.mktemp("delegation") / "rules.yaml"

    def apply(content: dict[str, Any]) -> None:
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        done = stack.manage("apply", "-f", str(path))
        assert done.returncode == 0, done.stderr + done.stdout

    apply(document(exempt=["clear-readers"]))
    yield
    apply({**document(exempt=[]), "groups": [{"name": "cohorts"}, {"name": "clear-readers"}], "policies": []})


def token_for(stack: Stack, agent: str, subject_token: str) -> httpx.Response:
    form = {"grant_type": EXCHANGE, "subject_token": subject_token, "subject_token_type": JWT}
    credentials = {"client_id": agent, "client_secret": SECRET}
    url = f"{stack.demo['web_url']}/oauth/token"
    return httpx.post(url, data=form | credentials, timeout=60, trust_env=False)


def own_token(stack: Stack, agent: str) -> str:
    form = {"grant_type": "client_credentials", "client_id": agent, "client_secret": SECRET}
    answer = httpx.post(f"{stack.demo['web_url']}/oauth/token", data=form, timeout=60, trust_env=False)
    return str(answer.json()["access_token"])


def delegated(stack: Stack, agent: str) -> str:
    answer = token_for(stack, agent, stack.demo["users"][PERSON]["token"])
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def says(stack: Stack, user: str, token: str, statement: str) -> Any:
    """The first value of an answer, the number of changed rows, or the SQLSTATE of a refusal."""
    with psycopg.connect(stack.gateway_dsn(user=user, token=token), autocommit=True) as session:
        try:
            cursor = session.execute(statement)
        except psycopg.Error as refused:
            return refused.sqlstate
        return cursor.fetchone()[0] if cursor.description else cursor.rowcount  # type: ignore[index]


def is_clear(value: Any) -> bool:
    return isinstance(value, str) and "@" in value


def test_each_alone_has_what_it_has(stack: Stack, delegates: None) -> None:
    """The controls of everything below."""
    person, agent = stack.demo["users"][PERSON]["token"], own_token(stack, "delegate")

    assert is_clear(says(stack, PERSON, person, READ))
    assert says(stack, PERSON, person, WRITE) == "42501"
    assert not is_clear(says(stack, "delegate", agent, READ))
    assert says(stack, "delegate", agent, WRITE) == 0


def test_together_they_read_masked_and_write_nothing(stack: Stack, delegates: None) -> None:
    token = delegated(stack, "delegate")

    seen = says(stack, PERSON, token, READ)

    assert isinstance(seen, str)
    assert seen != "42501"
    assert not is_clear(seen)
    assert says(stack, PERSON, token, WRITE) == "42501"
    over_rest = stack.rest("POST", "/api/v1/connections/clinic/statements", token=token, json={"statement": READ})
    assert not is_clear(over_rest.json()["rows"][0][0])


def test_what_spares_both_spares_them_together(stack: Stack, delegates: None) -> None:
    assert is_clear(says(stack, PERSON, delegated(stack, "delegate-clear"), READ))


def test_policy_against_the_agent_holds_for_both(stack: Stack, delegates: None) -> None:
    assert says(stack, PERSON, delegated(stack, "delegate-barred"), READ) == "42501"


def test_a_delegated_token_is_not_delegated_again(stack: Stack, delegates: None) -> None:
    again = token_for(stack, "delegate-clear", delegated(stack, "delegate"))

    assert again.status_code == 400, again.text


def test_record_names_both(stack: Stack, delegates: None) -> None:
    says(stack, PERSON, delegated(stack, "delegate"), "select count(*) from encounters")

    with psycopg.connect(stack.demo["control_dsn"]) as control:
        (groups,) = control.execute(
            "SELECT groups FROM audit_sessionrecord WHERE subject = %s AND actor = 'delegate' ORDER BY opened_at DESC"
            " LIMIT 1",
            [PERSON],
        ).fetchone()  # type: ignore[misc]
    assert groups == ["cohorts"]
