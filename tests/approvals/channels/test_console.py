"""Channels in the console: secrets written and never shown, mistakes said at once, dead letters sent again."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from approvals.domain.channels import channel_secrets
from approvals.models import Channel, Delivery
from audit.models import LogEntry
from tests.approvals.factories import person

pytestmark = [pytest.mark.django_db]
SECRET = "whsec_" + "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5"
FORM = {
    "name": "siem",
    "kind": "webhook",
    "url": "https://93.184.216.34/hook",
    "secret": SECRET,
    "events": "review.opened,emergency.opened",
    "connections": "*",
    "groups": "",
    "people": "{}",
    "enabled": "on",
}


@pytest.fixture
def console() -> Client:
    client = Client()
    client.force_login(person("boss", is_superuser=True, is_staff=True), "django.contrib.auth.backends.ModelBackend")
    return client


def test_channel_is_saved_sealed_and_recorded(console):
    assert console.post(reverse("admin:approvals_channel_add"), FORM).status_code == 302

    saved = Channel.objects.get()
    again = console.post(reverse("admin:approvals_channel_change", args=[saved.pk]), {**FORM, "secret": ""})
    saved.refresh_from_db()
    page = console.get(reverse("admin:approvals_channel_change", args=[saved.pk])).text
    entries = [bytes(entry.canonical).decode() for entry in LogEntry.objects.filter(kind="config.changed")]
    assert again.status_code == 302
    assert channel_secrets(saved) == {"secret": SECRET}
    assert SECRET not in page
    assert len(entries) == 2
    assert all(SECRET not in entry and "sealed" not in entry for entry in entries)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://93.184.216.34/"}, "expected https"),
        ({"url": "https://169.254.169.254/latest"}, "not a public one"),
        ({"url": ""}, "expected an address"),
        ({"secret": "short"}, "expected at least"),
        ({"people": '{"T1/U1": "x"}'}, "nobody decides from a webhook"),
        ({"kind": "slack", "people": '{"U1": "x"}', "url": "", "webhook_url": "https://93.184.216.34/"}, "member id"),
    ],
)
def test_mistakes_are_said_in_the_form(console, changes, words):
    answer = console.post(reverse("admin:approvals_channel_add"), {**FORM, **changes})

    assert answer.status_code == 200
    assert words in answer.text
    assert not Channel.objects.exists()


def test_dead_letters_are_shown_and_sent_again(console):
    console.post(reverse("admin:approvals_channel_add"), FORM)
    channel = Channel.objects.get()
    dead = Delivery.objects.create(channel=channel, event="review.opened", about="x", payload={}, state="dead")
    Delivery.objects.update(tried_at=dead.created_at, problem="answered 500")

    listed = console.get(reverse("admin:approvals_channel_changelist")).text
    address = reverse("admin:approvals_delivery_changelist")
    letters = console.get(f"{address}?state__exact=dead&channel__id__exact={channel.pk}").text
    console.post(address, {"action": "send_again", "_selected_action": [str(dead.pk)]})

    dead.refresh_from_db()
    assert "failing" in listed
    assert "answered 500" in letters
    assert dead.state == "pending"
