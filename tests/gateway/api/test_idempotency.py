"""Idempotency keys: the same key and request get the same answer, another request 422, and nothing runs twice."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from approvals.domain.idempotency import forget_old_keys
from approvals.models import IdempotentRequest
from gateway.domain import statements
from gateway.domain.tokens import issue_agent_token
from gateway.models import AccessRule, Agent, Connection
from gateway.session.context import new_id
from gateway.store import rules_now
from tests.gateway.api.conftest import Cast, DataPlane, bearer
from tests.gateway.api.test_statements import ACCEPTED, COLUMNS, COMPLETED, REVIEW, ROWS, STATEMENTS, keep, streamed

UPDATE = "update patients set city = 'Ohio-4711' where id = 1"
DENIED = {"type": "denied", "problem": {"code": "policy-denied", "reason": "exports are denied", "rule": "exports"}}


def post(cast: Cast, key: str, who: str = "agent", path: str = STATEMENTS, **body: Any) -> Any:
    asked = {"statement": UPDATE, **body}
    return cast.client(who).post(path, asked, format="json", headers={"Idempotency-Key": key})


def test_without_a_key_the_statement_is_sent_twice(cast: Cast, data_plane: DataPlane) -> None:
    """The control: what the key prevents."""
    data_plane.frames = [ACCEPTED, COMPLETED]

    for _ in range(2):
        cast.client("agent").post(STATEMENTS, {"statement": UPDATE}, format="json")

    assert len(data_plane.requests) == 2


@pytest.mark.parametrize("frames", [[ACCEPTED, COMPLETED], [ACCEPTED, DENIED]])
def test_same_key_and_body_get_the_first_answer_and_run_nothing(
    cast: Cast, data_plane: DataPlane, frames: list[dict[str, Any]]
) -> None:
    data_plane.frames = frames
    first = post(cast, "k1")
    data_plane.frames = [ACCEPTED, {**COMPLETED, "command_tag": "UPDATE 77"}]

    again = post(cast, "k1")

    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again["Content-Type"].split(";")[0] == first["Content-Type"].split(";")[0]
    assert (again["Idempotency-Replayed"], first.has_header("Idempotency-Replayed")) == ("true", False)
    assert len(data_plane.requests) == 1


@pytest.mark.parametrize(
    "other", [{"statement": "select 1"}, {"parameters": [1]}, {"path": "/api/v1/connections/clinical/statements"}]
)
def test_same_key_for_another_request_is_422(cast: Cast, data_plane: DataPlane, other: dict[str, Any]) -> None:
    data_plane.frames = [ACCEPTED, COMPLETED]
    post(cast, "k1")

    answer = post(cast, "k1", **other)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert len(data_plane.requests) == 1


def test_a_key_is_its_holders_alone(cast: Cast, data_plane: DataPlane) -> None:
    other = Agent.objects.create(name="other", client_id="other", groups=["ai-agents"], owner=cast.admin)
    data_plane.frames = [ACCEPTED, COMPLETED]
    post(cast, "k1")
    data_plane.frames = [ACCEPTED, {**COMPLETED, "command_tag": "UPDATE 77"}]

    answer = bearer(issue_agent_token(other)).post(
        STATEMENTS, {"statement": UPDATE}, format="json", headers={"Idempotency-Key": "k1"}
    )

    assert answer.json()["command_tag"] == "UPDATE 77"
    assert not answer.has_header("Idempotency-Replayed")


def test_rows_are_read_again_from_the_kept_statement(cast: Cast, data_plane: DataPlane) -> None:
    statement_id = keep(cast)
    data_plane.frames = [{**ACCEPTED, "id": statement_id}, COLUMNS, ROWS, COMPLETED]
    assert streamed(post(cast, "k1"))["rows"] == ROWS["rows"]
    result = {"columns": COLUMNS["columns"], "rows": ROWS["rows"], "row_count": 2, "command_tag": "SELECT 2"}
    statements.finish_statement(
        statement_id=statement_id,
        status="completed",
        result=result,
        problem=None,
        statement=UPDATE,
        modified_from=None,
        shown_by=statements.ShownBy(str(rules_now("clinic"))),
    )

    again = post(cast, "k1")

    assert (again.status_code, again.json()["rows"], again.json()["id"]) == (200, ROWS["rows"], statement_id)
    Connection.objects.update(phi=False)
    assert (post(cast, "k1").status_code, post(cast, "k1").json()["code"]) == (410, "rules-changed")
    statements.RestStatement.objects.update(sealed_result=b"")
    assert (post(cast, "k1").status_code, post(cast, "k1").json()["code"]) == (410, "answer-erased")
    assert [path for path, _, _ in data_plane.requests].count("/relay/v1/statements") == 1


def test_held_statement_answers_what_became_of_it(cast: Cast, data_plane: DataPlane) -> None:
    statement_id = keep(cast)
    data_plane.frames = [{**ACCEPTED, "id": statement_id}, {"type": "pending", "review": REVIEW}]
    assert [post(cast, "k1").status_code for _ in range(2)] == [202, 202]
    statements.finish_statement(
        statement_id=statement_id,
        status="completed",
        result={"columns": [], "rows": [], "row_count": 1, "command_tag": "UPDATE 1"},
        problem=None,
        statement=UPDATE,
        modified_from=None,
        shown_by=statements.ShownBy(""),
    )

    assert (post(cast, "k1").status_code, post(cast, "k1").json()["status"]) == (200, "completed")


def test_answer_is_gone_with_the_access(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = [ACCEPTED, COMPLETED]
    assert [post(cast, "k1").status_code for _ in range(2)] == [200, 200]
    AccessRule.objects.all().delete()

    assert post(cast, "k1").status_code == 404


def test_statement_that_reached_no_gateway_keeps_its_key(cast: Cast, data_plane: DataPlane, settings: Any) -> None:
    reachable, settings.HOOPWEB_RELAY_URL = settings.HOOPWEB_RELAY_URL, "http://127.0.0.1:9"
    assert post(cast, "k1").status_code == 503
    settings.HOOPWEB_RELAY_URL, data_plane.frames = reachable, [ACCEPTED, COMPLETED]

    assert post(cast, "k1").status_code == 200


def test_answer_that_never_came_is_not_tried_again(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = []  # the gateway ends without a word: nobody knows what ran
    assert post(cast, "k1").status_code == 502
    data_plane.frames = [ACCEPTED, COMPLETED]

    again = post(cast, "k1")

    assert (again.status_code, again.json()["code"], again["Retry-After"]) == (409, "idempotency-key-in-use", "1")
    assert len(data_plane.requests) == 1


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256])
def test_key_that_is_none_is_refused(cast: Cast, data_plane: DataPlane, key: str) -> None:
    answer = post(cast, key)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad-idempotency-key")
    assert data_plane.requests == []


def test_nothing_readable_is_stored_and_it_ends(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = [ACCEPTED, {**COMPLETED, "command_tag": "CLEARLY 4711"}]
    post(cast, "a-telling-key")
    [row] = IdempotentRequest.objects.values()
    assert not any(word in repr(row) for word in ("telling", "Ohio", "4711"))

    IdempotentRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert forget_old_keys() == 1


@pytest.mark.django_db(transaction=True)
def test_of_racing_requests_one_runs(cast: Cast, data_plane: DataPlane) -> None:
    data_plane.frames = [{**ACCEPTED, "id": new_id()}, COMPLETED]
    answers: list[int] = []

    def send() -> None:
        try:
            answers.append(post(cast, "k1").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(data_plane.requests) == 1
    assert set(answers) <= {200, 404, 409}  # 404: began, and this data plane keeps no record of it
    assert answers.count(200) >= 1
