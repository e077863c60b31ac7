"""A held statement's whole journey on the running product: psycopg waits, a reviewer modifies, the new text runs."""

from __future__ import annotations

import threading

import pytest

from tests.reviews import pending_review, review_id
from tests.stack import Stack

pytestmark = pytest.mark.e2e


def decide(stack: Stack, review: str, user: str, **body: str):
    address = f"/api/v1/reviews/{review}/decision"
    return stack.rest("POST", address, user=user, json={"reason": "less is enough", **body})


def test_modified_statement_runs_in_the_client_that_waited(stack: Stack):
    asked = "UPDATE patients SET phone = '555-0100' WHERE id = 41"
    better = "UPDATE patients SET phone = NULL WHERE id = 41"
    notices, results = [], []
    with stack.connect() as client:
        client.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        waiting = threading.Thread(target=lambda: results.append(client.execute(asked).rowcount))
        waiting.start()
        review = review_id(pending_review(stack, asked))

        own = decide(stack, review, "admin", decision="approve")
        several = decide(stack, review, "reviewer", decision="modify", statement=better + "; DELETE FROM claims")
        forbidden = decide(stack, review, "reviewer", decision="modify", statement="DROP TABLE patients")
        modified = decide(stack, review, "reviewer", decision="modify", statement=better)
        waiting.join(60)

    assert own.json()["code"] == "self-approval"
    assert several.json()["code"] == "modified-not-analysed"
    assert forbidden.json()["code"] == "modified-denied"
    assert (modified.status_code, results) == (200, [1])
    assert any("approved by reviewer" in notice for notice in notices)
    with stack.direct() as direct:
        assert direct.execute("SELECT phone FROM patients WHERE id = 41").fetchone() == (None,)
