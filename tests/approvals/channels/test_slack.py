"""Slack: what a message offers, whose answers are believed, and what a press of a button can do."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse

from approvals.channels.send import attempt
from approvals.channels.slack import APPROVE, DENY, REASON
from approvals.domain.channels import SECRET, URL, set_channel_secrets
from approvals.domain.deliveries import due_deliveries
from approvals.domain.events import Event
from approvals.domain.notices import tell_channels
from approvals.models import Channel, Grant, Review, Vote
from audit.models import LogEntry
from tests.approvals.channels.receiver import receiving
from tests.approvals.factories import held, person, write_request

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
SIGNING = "8f742231b10e8888abcd99yyyzzz85a5"


@pytest.fixture
def slack(settings):
    settings.HOOPWEB_CHANNEL_NETWORKS = ["127.0.0.0/8"]
    with receiving() as running:
        yield running


@pytest.fixture
def officers(slack, reviewer):
    made = Channel(name="officers", kind="slack", people={"T1/U1": "reviewer", "T1/U2": "admin"})
    set_channel_secrets(channel=made, values={URL: slack.url, SECRET: SIGNING})
    made.save()
    return made


def pressed(review, action=APPROVE, *, member="U1", team="T1", reason="looked at it", response_url="", seen=1) -> bytes:
    interaction = {
        "type": "block_actions",
        "team": {"id": team},
        "user": {"id": member},
        "response_url": response_url,
        "state": {"values": {REASON: {REASON: {"type": "plain_text_input", "value": reason}}}},
        "actions": [{"action_id": action, "value": f"{review.pk}:{seen}"}],
    }
    return urlencode({"payload": json.dumps(interaction)}).encode()


def send(body: bytes, *, secret: str = SIGNING, at: int | None = None, signed: bytes | None = None, name="officers"):
    moment = str(int(time.time()) if at is None else at)
    base = f"v0:{moment}:".encode() + (body if signed is None else signed)
    signature = "v0=" + hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()
    return Client(enforce_csrf_checks=True).post(
        reverse("approvals:slack", args=[name]),
        data=body,
        content_type="application/x-www-form-urlencoded",
        headers={"X-Slack-Request-Timestamp": moment, "X-Slack-Signature": signature},
    )


def untouched(review: Review) -> bool:
    review.refresh_from_db()
    return review.status == "pending" and not Vote.objects.exists() and not Grant.objects.exists()


def test_message_links_to_the_page_and_offers_buttons(slack, officers):
    review = held()
    tell_channels(review, Event.REVIEW_OPENED)
    attempt(str(due_deliveries()[0]))

    document = json.loads(slack.received[0].body)

    buttons = [part for block in document["blocks"] if block["type"] == "actions" for part in block["elements"]]
    assert [button["action_id"] for button in buttons] == ["hoopweb-open", APPROVE, DENY]
    assert buttons[0]["url"] == review.absolute_url
    assert all(block["text"]["type"] == "plain_text" for block in document["blocks"] if "text" in block)


def test_message_tells_times_and_counts_as_people_read_them(slack, officers):
    review = held()
    tell_channels(review, Event.REVIEW_OPENED)
    attempt(str(due_deliveries()[0]))

    (section,) = [block for block in json.loads(slack.received[0].body)["blocks"] if block["type"] == "section"]
    said = [field["text"] for field in section["fields"]]
    assert f"Decide by: {review.decide_by:%Y-%m-%d %H:%M} UTC" in said
    assert not [line for line in said if line.endswith(": 0")]


def test_high_risk_and_unmapped_channels_offer_less(slack, officers):
    held_high = held(request=write_request(risk=80))
    tell_channels(held_high, Event.REVIEW_OPENED)
    attempt(str(due_deliveries()[0]))

    assert APPROVE.encode() not in slack.received[0].body
    assert DENY.encode() in slack.received[0].body


def test_mapped_reviewer_approves(slack, officers):
    review = held()

    answer = send(pressed(review, response_url=f"http://127.0.0.1:{slack.port}/response"))

    review.refresh_from_db()
    assert (answer.status_code, review.status) == (200, "approved")
    assert (Vote.objects.get().reviewer, Vote.objects.get().decision) == ("reviewer", "approve")
    assert b"Approved by reviewer" in slack.received[0].body
    decided = LogEntry.objects.get(kind="review.decided")
    assert json.loads(bytes(decided.canonical))["body"]["through"] == "slack:officers:T1/U1"


@pytest.mark.parametrize(
    ("attack", "status"),
    [
        ({"secret": "another"}, 401),
        ({"secret": ""}, 401),
        ({"at": 0}, 401),
        ({"at": int(time.time()) - 3600}, 401),
        ({"at": int(time.time()) + 3600}, 401),
        ({"signed": b"payload=something-else"}, 401),
        ({"name": "elsewhere"}, 401),
    ],
)
def test_what_slack_did_not_sign_is_refused(officers, attack, status):
    review = held()

    assert send(pressed(review), **attack).status_code == status
    assert untouched(review)
    assert send(pressed(review)).status_code == 200  # the control
    assert not untouched(review)


def test_repetition_is_refused(officers, reviewer2):
    review = held()
    body, moment = pressed(review, reason=""), int(time.time())

    answers = [send(body, at=moment).status_code for _ in range(2)]

    assert answers == [200, 401]
    assert untouched(review)  # without a reason nothing is decided


def test_channel_without_signing_secret_believes_nothing(slack, reviewer):
    made = Channel(name="officers", kind="slack", people={"T1/U1": "reviewer"})
    set_channel_secrets(channel=made, values={URL: slack.url})
    made.save()
    review = held()

    assert send(pressed(review), secret="").status_code == 401
    assert untouched(review)


@pytest.mark.parametrize(
    "known",
    [
        {"member": "U9"},  # not mapped
        {"team": "T9"},  # the same member id in another workspace
        {"member": "U2"},  # the human behind the agent
        {"seen": 2},  # a text nobody has seen
        {"reason": ""},
    ],
)
def test_button_decides_nothing_for_who_may_not(slack, officers, admin, known):
    review = held()

    answer = send(pressed(review, response_url=f"http://127.0.0.1:{slack.port}/r", **known))

    assert answer.status_code == 200
    assert untouched(review)
    assert review.absolute_url.encode() in slack.received[0].body


def test_disabled_reviewer_and_high_risk_go_to_the_page(slack, officers):
    risky = held(request=write_request(risk=80))
    send(pressed(risky))
    assert untouched(risky)
    send(pressed(risky, DENY))
    risky.refresh_from_db()
    assert risky.status == "denied"

    Vote.objects.all().delete()
    review = held(parameters=(b"8", None))
    person("someone", "privacy-officers", is_active=False)
    Channel.objects.update(people={"T1/U1": "someone"})
    send(pressed(review))
    assert untouched(review)


def test_answer_goes_to_slack_or_nowhere(slack, officers):
    with receiving() as elsewhere:
        send(pressed(held(), response_url=f"http://127.0.0.1:{elsewhere.port}/steal"))

    assert elsewhere.received == []


@pytest.mark.parametrize("body", [b"", b"payload=", b"payload=[]", b"payload=%7B%7D", b"\xff\xfe", b"x" * 200_000])
def test_garbage_does_nothing(officers, body):
    review = held()

    assert send(body).status_code in (200, 401)
    assert untouched(review)
