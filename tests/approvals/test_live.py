"""Decisions reach open pages, and whoever listens to the channel layer, without a reload: over a real Redis."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import channel_layers, get_channel_layer
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser
from django.db import connections

from approvals.domain.review import decide_review, withdraw_review
from approvals.routing import websocket_urlpatterns
from tests.approvals.factories import held, person

pytestmark = pytest.mark.django_db(transaction=True)
in_thread = sync_to_async


@pytest.fixture(autouse=True)
async def no_connection_left():
    """Threads keep their database connections; the test database could not be dropped.

    The channel layer keeps locks of the event loop it was used in: every test's loop gets its own.
    """
    channel_layers.backends.clear()
    yield
    channel_layers.backends.clear()
    await in_thread(connections.close_all)()


class Page(ApplicationCommunicator):
    """One browser's socket (channels.testing would need daphne)."""

    def __init__(self, path, user):
        scope = {"type": "websocket", "path": f"/{path}", "headers": [], "query_string": b"", "user": user}
        super().__init__(URLRouter(websocket_urlpatterns), scope)

    async def connect(self):
        await self.send_input({"type": "websocket.connect"})
        assert (await self.receive_output(60))["type"] == "websocket.accept"

    async def heard(self):
        return json.loads((await self.receive_output(60))["text"])

    async def leave(self):
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(60)


async def test_decision_is_pushed_to_the_open_page_and_to_gateways():
    reviewer = await in_thread(person)("reviewer", "privacy-officers")
    review = await in_thread(held)()
    layer = get_channel_layer()
    gateway = await layer.new_channel()
    await layer.group_add("reviews", gateway)
    page = Page(f"ws/v1/reviews/{review.pk}/", reviewer)
    await page.connect()
    first = await page.heard()

    await in_thread(decide_review)(review=review, reviewer=reviewer, decision="approve", reason="yes")
    message = {"review_id": ""}
    while message["review_id"] != str(review.pk):  # tests of another process decide reviews of their own meanwhile
        message = await asyncio.wait_for(layer.receive(gateway), 60)

    assert (first["status"], message["type"]) == ("pending", "review.changed")
    assert (await page.heard())["status"] == "approved"
    await page.leave()


@pytest.mark.parametrize("path", ["ws/v1/reviews/{}/", "ws/v1/reviews/"])
async def test_strangers_hear_nothing(path):
    review = await in_thread(held)()
    outsider = await in_thread(person)("outsider", "data-stewards")
    for user in (AnonymousUser(), outsider):
        page = Page(path.format(review.pk), user)
        await page.connect()
        await in_thread(withdraw_review)(review_id=str(review.pk))
        if path.endswith("{}/") or not user.is_authenticated:
            assert (await page.receive_output(60))["type"] == "websocket.close"
        else:
            assert await page.receive_nothing(0.3)
        await page.leave()


async def test_inbox_hears_of_its_reviews():
    reviewer = await in_thread(person)("reviewer", "privacy-officers")
    page = Page("ws/v1/reviews/", reviewer)
    await page.connect()

    await in_thread(held)()

    assert await page.heard() == {"type": "inbox"}
    await page.leave()


@pytest.mark.parametrize("path", ["ws/v1/reviews/", "ws/v1/reviews/{}/"])
async def test_socket_closes_when_its_person_is_disabled(path, monkeypatch):
    monkeypatch.setattr("approvals.consumers.RECHECK_S", 0.05)
    reviewer = await in_thread(person)("reviewer", "privacy-officers")
    review = await in_thread(held)()
    page = Page(path.format(review.pk), reviewer)
    await page.connect()
    if "{}" in path:
        await page.heard()
    assert await page.receive_nothing(0.2)  # the control: still welcome

    await in_thread(lambda: type(reviewer).objects.update(is_active=False))()

    assert (await page.receive_output(60))["code"] == 4403


async def test_socket_closes_when_the_review_is_none_of_theirs_any_more(monkeypatch):
    monkeypatch.setattr("approvals.consumers.RECHECK_S", 0.05)
    reviewer = await in_thread(person)("reviewer", "privacy-officers")
    review = await in_thread(held)()
    page = Page(f"ws/v1/reviews/{review.pk}/", reviewer)
    await page.connect()
    await page.heard()

    await in_thread(lambda: reviewer.groups.clear())()

    assert (await page.receive_output(60))["code"] == 4403
