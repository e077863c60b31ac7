"""Messages to channels on a real server: signed, tried again, given up in the open, and free of what was asked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from approvals.channels.send import attempt
from approvals.channels.webhook import SecretProblem, signing_key
from approvals.domain.channels import SECRET, URL, channel_health, channel_secrets, set_channel_secrets
from approvals.domain.deliveries import MAX_ATTEMPTS, due_deliveries, send_again, tell_test
from approvals.domain.events import Event
from approvals.domain.notices import tell_channels
from approvals.domain.review import decide_review
from approvals.models import Channel, Delivery
from approvals.tasks import notify_outcome
from audit.domain.box import SealProblem
from tests.approvals.channels.receiver import receiving
from tests.approvals.factories import held, write_request

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]

KEY = b"0123456789abcdef0123456789abcdef"
SECRET_TEXT = "whsec_" + base64.b64encode(KEY).decode()


@pytest.fixture
def receiver(settings):
    settings.HOOPWEB_CHANNEL_NETWORKS = ["127.0.0.0/8"]
    with receiving() as running:
        yield running


def channel(url: str = "", **known) -> Channel:
    secrets = known.pop("secrets", {SECRET: SECRET_TEXT})
    made = Channel(name=known.pop("name", "siem"), kind=known.pop("kind", "webhook"), url=url, **known)
    made.full_clean(exclude=["sealed"])
    set_channel_secrets(channel=made, values=secrets)
    made.save()
    return made


def due_now() -> None:
    Delivery.objects.update(next_at=timezone.now() - timedelta(seconds=1))


def deliver_all() -> None:
    for delivery_id in due_deliveries():
        attempt(str(delivery_id))


def test_webhook_is_signed_as_standard_webhooks_says(receiver):
    channel(receiver.url)
    review = held()

    tell_channels(review, Event.REVIEW_OPENED)
    deliver_all()

    (message,) = receiver.received
    identifier, moment = message.headers["webhook-id"], message.headers["webhook-timestamp"]
    signed = f"{identifier}.{moment}.".encode() + message.body
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    document = json.loads(message.body)
    assert message.headers["webhook-signature"] == f"v1,{expected}"
    assert (document["id"], document["type"]) == (identifier, "review.opened")
    assert document["data"]["review"] == str(review.pk)
    assert document["data"]["tables"] == ["public.patients"]
    assert Delivery.objects.get().state == "delivered"


def test_messages_hold_no_statement_and_no_value(receiver, reviewer):
    """The control: the canary is in the statement, the parameters, the reason."""
    channel(receiver.url)
    channel(name="officers", kind="slack", secrets={URL: receiver.url, SECRET: "s"}, people={"T1/U1": "x"})
    text = "UPDATE patients SET phone = 'CANARY-4711' WHERE id = 7"
    review = held(statement=text, parameters=(b"CANARY-4711",), request=write_request(text=text))

    tell_channels(review, Event.REVIEW_OPENED)
    deliver_all()
    decide_review(review=review, reviewer=reviewer, decision="approve", reason="CANARY-4711 is fine")
    notify_outcome(str(review.pk))
    deliver_all()

    assert len(receiver.received) == 4
    assert all(
        b"CANARY" not in message.body and b"UPDATE patients" not in message.body for message in receiver.received
    )
    assert "CANARY" not in json.dumps(list(Delivery.objects.values_list("payload", flat=True)))


def test_same_event_is_told_once(receiver):
    channel(receiver.url)
    review = held()

    assert [tell_channels(review, Event.REVIEW_OPENED) for _ in range(3)] == [1, 0, 0]


def test_failure_is_tried_again_with_growing_pauses_under_the_same_id(receiver):
    channel(receiver.url)
    receiver.answers = [500, 503, 200]
    tell_channels(held(), Event.REVIEW_OPENED)
    pauses = []

    for _ in range(3):
        deliver_all()
        delivery = Delivery.objects.get()
        pauses.append((delivery.next_at - timezone.now()).total_seconds())
        due_now()

    assert (delivery.state, delivery.attempts, delivery.answer, delivery.problem) == ("delivered", 3, 200, "")
    assert len({message.headers["webhook-id"] for message in receiver.received}) == 1
    assert len({message.body for message in receiver.received}) == 1
    assert 2 < pauses[0] < 8
    assert 14 < pauses[1] < 46


def test_message_is_given_up_and_a_person_sends_it_again(receiver):
    siem = channel(receiver.url)
    receiver.answers = [500]
    tell_channels(held(), Event.REVIEW_OPENED)

    for _ in range(MAX_ATTEMPTS + 2):
        deliver_all()
        due_now()

    dead = Delivery.objects.get()
    assert (dead.state, len(receiver.received)) == ("dead", MAX_ATTEMPTS)
    assert channel_health()[siem.pk].light == "failing"
    assert channel_health()[siem.pk].problem == "answered 500"

    receiver.answers = [200]
    assert send_again(delivery=dead) is True
    assert send_again(delivery=dead) is False
    deliver_all()

    assert Delivery.objects.get().state == "delivered"
    assert channel_health()[siem.pk].light == "good"


@pytest.mark.parametrize(("answer", "state"), [(410, "dead"), (302, "pending"), (404, "pending"), (204, "delivered")])
def test_what_an_answer_means(receiver, answer, state):
    channel(receiver.url)
    receiver.answers = [answer]
    tell_channels(held(), Event.REVIEW_OPENED)

    deliver_all()

    assert Delivery.objects.get().state == state


def test_attempt_is_made_by_one_worker(receiver):
    channel(receiver.url)
    tell_channels(held(), Event.REVIEW_OPENED)
    (delivery_id,) = due_deliveries()

    attempt(str(delivery_id))
    attempt(str(delivery_id))

    assert len(receiver.received) == 1


@pytest.mark.parametrize("attempts", [0, 2])
def test_message_of_a_clock_that_was_ahead_is_sent(receiver, attempts):
    """It was set right since: a message that is due next year is due now. One that only pauses is not."""
    channel(receiver.url)
    tell_channels(held(), Event.REVIEW_OPENED)
    Delivery.objects.update(attempts=2, next_at=timezone.now() + timedelta(hours=1))
    assert due_deliveries() == []

    Delivery.objects.update(attempts=attempts, next_at=timezone.now() + timedelta(days=365 if attempts else 0.5))
    deliver_all()

    assert len(receiver.received) == 1


def test_call_for_a_decision_that_was_taken_is_not_sent(receiver, reviewer):
    channel(receiver.url)
    review = held()
    tell_channels(review, Event.REVIEW_OPENED)
    decide_review(review=review, reviewer=reviewer, decision="deny", reason="no")

    deliver_all()

    assert Delivery.objects.get(event=Event.REVIEW_OPENED).state == "moot"
    assert receiver.received == []


def test_address_that_is_not_permitted_is_given_up_at_once(settings):
    settings.HOOPWEB_CHANNEL_NETWORKS = []
    with receiving() as running:
        channel(running.url)
        tell_channels(held(), Event.REVIEW_OPENED)
        deliver_all()

    delivery = Delivery.objects.get()
    assert (delivery.state, running.received) == ("dead", [])
    assert "127.0.0.1" not in delivery.problem


def test_channels_hear_of_what_they_asked_for(receiver):
    review = held()
    channel(receiver.url, name="all")
    channel(receiver.url, name="elsewhere", connections=["warehouse*"])
    channel(receiver.url, name="others", groups=["data-stewards"])
    channel(receiver.url, name="endings", events=[Event.REVIEW_ENDED])
    channel(receiver.url, name="off", enabled=False)

    tell_channels(review, Event.REVIEW_OPENED)

    assert list(Delivery.objects.values_list("channel__name", flat=True)) == ["all"]


def test_secrets_are_sealed_and_open_under_their_own_name_only():
    made = channel("https://siem.example/hook")

    assert KEY not in bytes(made.sealed)
    assert SECRET_TEXT.encode() not in bytes(made.sealed)
    assert channel_secrets(made) == {SECRET: SECRET_TEXT}
    made.name = "another"
    with pytest.raises(SealProblem):
        channel_secrets(made)


@pytest.mark.parametrize("secret", ["", "short", "whsec_", "whsec_c2hvcnQ=", "whsec_***"])
def test_weak_signing_secrets_are_refused(secret):
    with pytest.raises(SecretProblem):
        signing_key(secret)


def test_test_message_turns_the_light_green(receiver):
    siem = channel(receiver.url)
    assert channel_health()[siem.pk].light == "unused"

    tell_test(channel=siem, by="admin")
    deliver_all()

    assert channel_health()[siem.pk].light == "good"
    assert json.loads(receiver.received[0].body)["type"] == "channel.test"
