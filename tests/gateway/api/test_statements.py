from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from approvals.domain.grant import revoke_grant
from approvals.domain.reach import leave_grant
from approvals.models import Grant
from gateway.domain import statements
from gateway.models import AccessRule
from gateway.session.context import new_id
from gateway.store import rules_now
from masking.models import MaskingRule
from tests.approvals.factories import held
from tests.gateway.api.conftest import Cast, DataPlane

STATEMENTS = "/api/v1/connections/clinic/statements"
ACCEPTED = {"type": "accepted", "id": "0190b7a0-0000-7000-8000-000000000001", "session_id": "s1"}
COLUMNS = {"type": "columns", "columns": [{"name": "ssn", "type": "text", "masked": True, "rule": "ssn"}]}
ROWS = {"type": "rows", "rows": [["***"], ["***"]]}
COMPLETED = {"type": "completed", "row_count": 2, "command_tag": "SELECT 2"}
REVIEW = {"id": "r1", "url": "http://127.0.0.1:8000/reviews/r1/", "expires_at": 1_800_000_000.0}


def post(cast: Cast, **body: Any) -> Any:
    return cast.client("agent").post(STATEMENTS, {"statement": "select ssn from patients", **body}, format="json")


def streamed(response: Any) -> dict[str, Any]:
    """The body of a streaming answer, read as an ASGI server would."""

    async def read() -> bytes:
        return b"".join([piece async for piece in response])

    return json.loads(asyncio.run(read()))


def test_completed_statement_is_200_with_columns_and_rows(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = [ACCEPTED, COLUMNS, ROWS, ROWS, {**COMPLETED, "row_count": 4}]

    response = post(cast, parameters=[1, None, "x"])

    assert response.status_code == 200
    assert streamed(response) == {
        "id": ACCEPTED["id"],
        "session_id": "s1",
        "columns": COLUMNS["columns"],
        "rows": [["***"]] * 4,
        "status": "completed",
        "row_count": 4,
        "command_tag": "SELECT 2",
    }


@pytest.mark.parametrize("parameters", [["\ud800"], [{"\ud800": 1}], [["x", "a\udfff"]]])
def test_half_a_character_is_the_callers_mistake(cast: Cast, data_plane: DataPlane, parameters: list[Any]) -> None:
    body = json.dumps({"statement": "select $1::text", "parameters": parameters})
    response = cast.client("agent").generic("POST", STATEMENTS, body, content_type="application/json")

    assert (response.status_code, response.json()["code"]) == (400, "bad-request")
    assert data_plane.requests == []


def test_relay_gets_the_callers_token_the_relay_key_and_the_statement(
    cast: Cast, data_plane: DataPlane, settings: Any
) -> None:
    data_plane.frames = [ACCEPTED, {**COMPLETED, "row_count": 0}]

    assert post(cast, parameters=[1], wait_s=2).status_code == 200

    path, headers, body = data_plane.requests[0]
    assert path == "/relay/v1/statements"
    assert headers["x-hoopweb-relay"] == settings.HOOPWEB_RELAY_KEY
    assert headers["authorization"].startswith("Bearer ey")
    assert body == {
        "connection": "clinic",
        "protocol": "rest",
        "client_address": "127.0.0.1",
        "statement": "select ssn from patients",
        "parameters": [1],
        "wait_s": 2.0,
        "dry_run": False,
    }


def test_held_statement_is_202_with_its_review(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = [ACCEPTED, {"type": "pending", "review": REVIEW}]

    response = post(cast)

    assert response.status_code == 202
    assert response.json()["status"] == "pending"
    assert response.json()["review"] == {**REVIEW, "expires_at": "2027-01-15T08:00:00+00:00"}


def test_denied_statement_is_a_problem_document(cast: Cast, data_plane: DataPlane) -> None:
    problem = {"code": "policy-denied", "reason": "exports are denied", "rule": "exports", "session_id": "s1"}
    data_plane.frames = [ACCEPTED, {"type": "denied", "problem": problem}]

    response = post(cast)

    assert response.status_code == 403
    assert response["Content-Type"] == "application/problem+json"
    document = response.json()
    assert document["type"] == "urn:hoopweb:problem:policy-denied"
    assert (document["reason"], document["rule"], document["permitted_alternative"]) == (
        "exports are denied",
        "exports",
        "",
    )


@pytest.mark.parametrize(
    ("code", "status"), [("failed-upstream", 422), ("upstream-unavailable", 502), ("internal-error", 500)]
)
def test_failure_of_the_database_is_a_problem_document(
    cast: Cast, data_plane: DataPlane, code: str, status: int
) -> None:
    data_plane.frames = [ACCEPTED, {"type": "failed", "problem": {"code": code, "reason": "it failed"}}]

    response = post(cast)

    assert (response.status_code, response.json()["code"]) == (status, code)


def test_result_that_breaks_off_does_not_look_complete(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = [ACCEPTED, COLUMNS, ROWS]

    answer = streamed(post(cast))

    assert (answer["status"], answer["problem"]["code"]) == ("failed", "gateway-broke-off")


def test_dry_run_answers_the_explanation(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = [{"type": "explained", "decision": {"action": "allow"}, "facts": {}, "masks": []}]

    response = post(cast, dry_run=True)

    assert response.json() == {"status": "explained", "decision": {"action": "allow"}, "facts": {}, "masks": []}


def test_no_gateway_is_503(cast: Cast, settings: Any) -> None:
    settings.HOOPWEB_RELAY_URL = "http://127.0.0.1:9"

    response = post(cast)

    assert (response.status_code, response.json()["code"]) == (503, "gateway-unavailable")


@pytest.mark.parametrize("body", [{"statement": ""}, {"wait_s": -1}, {"parameters": "x"}])
def test_bad_request_is_a_problem_document(cast: Cast, data_plane: DataPlane, body: dict[str, Any]) -> None:
    response = post(cast, **body)

    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")
    assert data_plane.requests == []


def keep(cast: Cast) -> str:
    """A statement of the demo agent that waits for a review."""
    from gateway.api.authentication import verifier
    from gateway.domain.connections import load_identity_rules
    from gateway.domain.tokens import issue_agent_token

    statement_id = new_id()
    principal = verifier.verify_blocking(issue_agent_token(cast.agent), rules=load_identity_rules())
    statements.open_statement(
        statement_id=statement_id,
        session_id="s1",
        principal=principal,
        connection="clinic",
        request={"statement": "update patients set city = 'x'"},
        binding="b",
    )
    statements.mark_pending(statement_id=statement_id, review=REVIEW)
    return statement_id


def test_kept_statement_moves_from_pending_to_completed(cast: Cast, data_plane: DataPlane) -> None:
    statement_id = keep(cast)
    client = cast.client("agent")

    first = client.get(f"/api/v1/statements/{statement_id}").json()
    assert (first["status"], first["review"]["id"]) == ("pending", "r1")
    assert data_plane.requests[0][0] == f"/relay/v1/statements/{statement_id}/resume"
    statements.finish_statement(
        statement_id=statement_id,
        status="completed",
        result={"columns": [], "rows": [], "row_count": 1, "command_tag": "UPDATE 1"},
        problem=None,
        statement="update patients set city = 'y'",
        modified_from="update patients set city = 'x'",
        shown_by=statements.ShownBy(""),
    )

    later = client.get(f"/api/v1/statements/{statement_id}").json()
    assert (later["status"], later["row_count"]) == ("completed", 1)
    assert (later["statement"], later["modified_from"]) == (
        "update patients set city = 'y'",
        "update patients set city = 'x'",
    )


@pytest.mark.parametrize("who", ["admin", "reviewer", "auditor"])
def test_kept_statement_is_its_askers_alone(cast: Cast, data_plane: DataPlane, who: str) -> None:
    statement_id = keep(cast)
    assert cast.client("agent").get(f"/api/v1/statements/{statement_id}").status_code == 200

    assert cast.client(who).get(f"/api/v1/statements/{statement_id}").status_code == 404


def test_kept_statement_is_gone_with_the_access_to_its_connection(cast: Cast, data_plane: DataPlane) -> None:
    statement_id = keep(cast)
    assert cast.client("agent").get(f"/api/v1/statements/{statement_id}").status_code == 200
    AccessRule.objects.all().delete()

    assert cast.client("agent").get(f"/api/v1/statements/{statement_id}").status_code == 404


def finished_with_rows(cast: Cast, *, emergency: str = "", grant: str = "") -> str:
    """The demo agent's statement, shown by the rules of this moment."""
    statement_id = keep(cast)
    statements.finish_statement(
        statement_id=statement_id,
        status="completed",
        result={"columns": [{"name": "city"}], "rows": [["Canaryville"]], "row_count": 1, "command_tag": "SELECT 1"},
        problem=None,
        statement="select city from patients",
        modified_from=None,
        shown_by=statements.ShownBy(str(rules_now("clinic")), emergency, grant),
    )
    return statement_id


def test_kept_rows_are_shown_by_the_rules_they_were_masked_by_alone(cast: Cast, data_plane: DataPlane) -> None:
    client, place = cast.client("agent"), f"/api/v1/statements/{finished_with_rows(cast)}"
    before = client.get(place).json()

    MaskingRule.objects.create(name="city", connections=["clin*"], columns=["public.patients.city"], technique="redact")

    after = client.get(place).json()
    assert (before["status"], before["rows"]) == ("completed", [["Canaryville"]])
    assert (after["status"], after["row_count"], after["problem"]["code"]) == ("completed", 1, "rules-changed")
    assert "rows" not in after
    assert "columns" not in after


def test_kept_rows_of_an_emergency_end_with_it(cast: Cast, data_plane: DataPlane) -> None:
    """The access they were shown under is none that is in force."""
    statement_id = finished_with_rows(cast, emergency=new_id())

    answer = cast.client("agent").get(f"/api/v1/statements/{statement_id}").json()

    assert (answer["problem"]["code"], "rows" in answer) == ("rules-changed", False)


def test_kept_rows_of_an_approval_end_when_it_is_revoked(cast: Cast, data_plane: DataPlane) -> None:
    """Whoever revokes it is told that whatever ran under it has ended."""
    review = held()
    leave_grant(review)
    grant = Grant.objects.get()
    client, place = cast.client("agent"), f"/api/v1/statements/{finished_with_rows(cast, grant=str(grant.pk))}"
    before = client.get(place).json()

    revoke_grant(grant=grant, by="reviewer")

    after = client.get(place).json()
    assert before["rows"] == [["Canaryville"]]
    assert (after["problem"]["code"], "rows" in after) == ("rules-changed", False)


def test_clients_trace_is_handed_on(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = [ACCEPTED, {**COMPLETED, "row_count": 0}]
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    cast.client("agent").post(STATEMENTS, {"statement": "select 1"}, format="json", headers={"traceparent": parent})

    assert data_plane.requests[0][2]["traceparent"] == parent
