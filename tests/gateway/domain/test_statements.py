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
    ending = {
        **{"result": RESULT, "problem": None, "statement": "select 2", "modified_from": "select 1"},
        **{"shown_by": statements.ShownBy("digest", "e1"), **changes},
    }
    statements.finish_statement(statement_id=statement_id, status=status, **ending)


def resumable() -> str | None:
    return statements.find_resumable(binding="b" * 64, principal=ASKER)


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


@pytest.mark.parametrize("stands", [True, False])
def test_rows_are_for_who_says_that_what_showed_them_stands(statement_id: str, *, stands: bool) -> None:
    finish(statement_id)
    asked: list[statements.ShownBy] = []

    answer = statements.answer_of(RestStatement.objects.get(), stands=lambda by: asked.append(by) or stands)

    assert asked == [statements.ShownBy("digest", "e1")]
    assert ("canary" in str(answer), "columns" in answer) == (stands, stands)
    assert (answer["status"], answer["row_count"], answer["statement"]) == ("completed", 1, "select 2")
    assert answer.get("problem", {}).get("code") == (None if stands else "rules-changed")


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


@pytest.mark.parametrize(
    "other",
    [
        Principal(subject="demo", issuer="http://i", groups=frozenset({"clinicians"}), actor="agent"),
        Principal(subject="demo", issuer="http://i", groups=frozenset({"clinicians"}), kind="agent"),
        Principal(subject="demo", issuer="http://other", groups=frozenset({"clinicians"}), kind="person"),
        Principal(subject="demo", issuer="http://i", groups=frozenset(), kind="person"),
    ],
    ids=["an agent acting for them", "an agent of their name", "another issuer's", "without the group"],
)
def test_kept_answer_is_for_exactly_whoever_asked_with_the_groups_it_was_asked_with(db: None, other: Principal) -> None:
    person = Principal(subject="demo", issuer="http://i", groups=frozenset({"clinicians"}), kind="person")
    identifier = new_id()
    statements.open_statement(
        statement_id=identifier,
        session_id=new_id(),
        principal=person,
        connection="clinic",
        request={"statement": "select ssn"},
        binding="b" * 64,
    )
    statements.mark_pending(statement_id=identifier, review={"id": "r"})
    finish(identifier)
    wider = Principal(subject="demo", issuer="http://i", groups=frozenset({"clinicians", "more"}), kind="person")
    assert statements.find_own(statement_id=identifier, principal=person) is not None
    assert statements.find_resumable(binding="b" * 64, principal=wider) == identifier

    assert statements.find_own(statement_id=identifier, principal=other) is None
    assert statements.find_resumable(binding="b" * 64, principal=other) is None


def test_what_runs_is_taken_over_by_nobody_and_fails_with_its_holder(statement_id: str) -> None:
    statements.mark_pending(statement_id=statement_id, review={"id": "r", "url": "u", "expires_at": 1})
    statements.mark_running(statement_id=statement_id)

    assert resumable() == statement_id  # whoever asks again waits for its end
    assert not statements.take_over(statement_id=statement_id, from_holder="g1", holder="g2")
    statements.give_up(statement_id=statement_id, from_holder="another")
    assert statements.read_state(statement_id=statement_id)["status"] == "running"
    statements.give_up(statement_id=statement_id, from_holder="g1")

    state = statements.read_state(statement_id=statement_id)
    assert (state["status"], state["problem"]["code"]) == ("failed", "gateway-ended")
    assert resumable() is None


def test_only_what_waits_begins_to_run(statement_id: str) -> None:
    with pytest.raises(statements.StatementProblem):
        statements.mark_running(statement_id=statement_id)
