"""How large a held statement is, said wherever it is decided; and not where it would tell about protected values."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from django.core import mail
from django.test import Client
from rest_framework.test import APIClient

from analysis.estimate import RowsExpected
from analysis.statement import Facts
from approvals.channels.slack import message_blocks
from approvals.domain.facts import size_words
from approvals.domain.notices import review_notice
from approvals.emails import mail_reviewers
from tests.approvals.factories import PATIENTS, READ, WRITE, access_request, held, person, write_request

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
MANY = RowsExpected(changed=41_204)


def asking():
    """An UPDATE whose WHERE asks about protected values."""
    request = write_request()
    return replace(request, touch=replace(request.touch, inference_violations=("ssn: comparison (rule ssn, guarded)",)))


def page(review, user):
    client = Client()
    client.force_login(user)
    return client.get(review.get_absolute_url()).text


def rest(review, user):
    client = APIClient()
    client.force_authenticate(user)
    return client.get(f"/api/v1/reviews/{review.pk}").json()["facts"]


def test_size_is_said_on_the_page_in_rest_in_mails_and_to_channels(reviewer):
    review = held(expected=MANY)
    mail_reviewers(review)
    notice = review_notice(review)

    assert "changes about 41,204 rows" in page(review, reviewer)
    assert rest(review, reviewer)["estimated_changes"] == 41_204
    assert notice["rows_changed"] == 41_204
    assert "Rows changed, about: 41204" in json.dumps(message_blocks("review.opened", notice, may_decide=False))
    assert "Rows:      changes about 41,204 rows" in mail.outbox[0].body
    assert "changes about 41,204 rows" in mail.outbox[0].alternatives[0].content


def test_size_nobody_knows_is_no_number(reviewer):
    review = held()

    assert "changes nobody knows how many rows" in page(review, reviewer)
    assert rest(review, reviewer)["estimated_changes"] is None
    assert review_notice(review)["rows_changed"] is None


def test_size_of_a_question_about_protected_values_stays_on_the_deciders_page(reviewer):
    review = held(expected=MANY, request=asking())
    mail_reviewers(review)

    assert "changes about 41,204 rows" in page(review, reviewer)  # control: it is known
    assert review_notice(review)["rows_changed"] is None
    for text in (mail.outbox[0].body, mail.outbox[0].alternatives[0].content):
        assert "41,204" not in text


def test_requester_learns_no_size_of_a_question_about_protected_values(admin, reviewer):
    """The human behind the agent may read the review; statistics over real values would answer what they ask."""
    review = held(expected=MANY, request=asking())

    assert "41,204" in page(review, reviewer)  # control
    assert "41,204" not in page(review, admin)
    assert rest(review, reviewer)["estimated_changes"] == 41_204  # control
    assert rest(review, admin)["estimated_changes"] is None


def test_requester_sees_the_size_where_nothing_protected_is_asked(admin):
    assert "changes about 41,204 rows" in page(held(expected=MANY), admin)


@pytest.mark.parametrize(
    ("operations", "facts", "expected", "words"),
    [
        ((READ,), Facts(), RowsExpected(returned=1), "returns about 1 row"),
        ((READ,), Facts(row_bound=5), RowsExpected(), "returns at most 5 rows"),
        ((READ,), Facts(row_bound=5_000, estimated_rows=40), RowsExpected(), "returns about 40 rows"),
        ((READ,), Facts(), RowsExpected(), ""),
        ((WRITE,), Facts(row_bound=0), RowsExpected(changed=0), "changes about 0 rows"),
        (
            (READ, WRITE),
            Facts(),
            RowsExpected(returned=3, changed=1_000),
            "changes about 1,000 rows, returns about 3 rows",
        ),
    ],
)
def test_words_for_sizes(operations, facts, expected, words):
    request = access_request(*operations, facts=facts, tables_read=frozenset({PATIENTS}))

    assert size_words(held(request=request, expected=expected).facts) == words


def test_inbox_says_the_size_but_not_of_questions_about_protected_values(reviewer):
    client = Client()
    client.force_login(reviewer)
    held(expected=MANY)
    held(expected=RowsExpected(changed=777), request=asking(), statement="another")

    listed = client.get("/reviews/").text

    assert "changes about 41,204 rows" in listed
    assert "777" not in listed


def test_reviews_from_before_sizes_were_kept_still_show(reviewer):
    review = held()
    del review.facts["estimated_changes"]
    review.save()

    assert page(review, person("other", "privacy-officers"))
    assert review_notice(review)["rows_changed"] is None
