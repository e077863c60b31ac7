from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from approvals.domain.request import Principal
from gateway.domain import statements
from gateway.models import RestStatement
from gateway.session.context import new_id

ASKER = Principal(subject="demo", issuer="http://i", groups=frozenset())
RESULT = {"columns": [{"name": "n"}], "rows": [["canary-row"]], "row_count": 1, "command_tag": "SELECT 1"}


@pytest.fixture
def statement_id(db: None) -> str:
    identifier = new_id()
    statements.open_statement(
        statement_id=identifier,
        session_id=new_id(),
        principal=ASKER,
        connection="clinic",
        request={"statement": "select 'canary-text'", "parameters": [1]},
        binding="b" * 64,
        holder="g1",
    )
    return identifier


def finish(statement_id: str, status: str = "completed", **changes: Any) -> None:
    ending = {"result": RESULT, "problem": None, "statement": "select 2", "modified_from": "select 1", **changes}
    statements.finish_statement(statement_id=statement_id, status=status, **ending)


def resumable() -> str | None:
    return statements.find_resumable(binding="b" * 64, subject="demo", issuer="http://i")


def test_held_statement_moves_from_pending_to_completed_and_is_collected_once(statement_id: str) -> None:
    assert resumable() is None  # it runs, and was never held
    statements.mark_pending(statement_id=statement_id, review={"id": "r", "url": "u", "expires_at": 1})
    assert statements.read_state(statement_id=statement_id)["status"] == "pending"
    assert resumable() == statement_id
    assert statements.collect(statement_id=statement_id) is None

    finish(statement_id)

    collected = statements.collect(statement_id=statement_id)
    assert collected is not None
    assert (collected["rows"], collected["statement"], collected["modified_from"]) == (
        [["canary-row"]],
        "select 2",
        "select 1",
    )
    assert statements.collect(statement_id=statement_id) is None
    assert resumable() is None


def test_text_and_rows_are_stored_sealed(statement_id: str) -> None:
    finish(statement_id)

    row = RestStatement.objects.values().get()
    assert "canary" not in str(row)
    assert statements.read_request(statement_id=statement_id)["statement"] == "select 'canary-text'"


def test_finished_statement_does_not_finish_again(statement_id: str) -> None:
    finish(statement_id, "denied", result=None, problem={"code": "x"})

    with pytest.raises(statements.StatementProblem):
        finish(statement_id)
    with pytest.raises(statements.StatementProblem):
        statements.mark_pending(statement_id=statement_id, review={})


def test_old_answers_are_erased(statement_id: str) -> None:
    finish(statement_id)
    RestStatement.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert statements.forget_old_statements() == 1

    row = RestStatement.objects.get()
    assert (bytes(row.sealed_request), bytes(row.sealed_result)) == (b"", b"")
