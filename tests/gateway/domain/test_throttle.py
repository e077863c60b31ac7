"""Guessers wait, others do not; nothing depends on Redis answering."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from gateway.domain import throttle

RIGHT, WRONG = "correct horse battery staple", "canary-wrong-password"


@pytest.fixture
def three_failures(settings: Any) -> str:
    """Bounds of three for a name and five for an address; an address nobody else uses."""
    settings.HOOPWEB_FAILURES_PER_NAME, settings.HOOPWEB_FAILURES_PER_ADDRESS = 3, 5
    return f"test-{uuid.uuid4().hex}"


def test_name_waits_after_its_failures_and_others_do_not(three_failures: str):
    for _ in range(3):
        assert throttle.wait_s(door="d", name="ann", address=three_failures) == 0
        throttle.count_failure(door="d", name="ann", address=three_failures)

    assert 0 < throttle.wait_s(door="d", name="ann", address=three_failures) <= throttle.WINDOW_S
    assert throttle.wait_s(door="d", name="ben", address=three_failures) == 0
    assert throttle.wait_s(door="other", name="ann", address=three_failures) == 0


def test_address_waits_whatever_it_claims(three_failures: str):
    for number in range(5):
        throttle.count_failure(door="d", name=f"name-{number}", address=three_failures)

    assert throttle.wait_s(door="d", name="somebody new", address=three_failures) > 0


@pytest.mark.usefixtures("three_failures")
def test_guesser_with_a_network_of_ipv6_addresses_is_one_guesser():
    network = f"2001:db8:{uuid.uuid4().hex[:4]}:{uuid.uuid4().hex[:4]}"
    for host in range(3):
        throttle.count_failure(door="d", name="ann", address=f"{network}::{host + 1:x}")

    assert throttle.wait_s(door="d", name="ann", address=f"{network}::ffff") > 0
    assert throttle.wait_s(door="d", name="ann", address="2001:db8::1") == 0


def test_without_redis_the_process_counts_by_itself(three_failures: str, settings: Any):
    settings.HOOPWEB_REDIS_URL = "redis://127.0.0.1:1/0"
    throttle._redis.cache_clear()

    for _ in range(3):
        throttle.count_failure(door="d", name="ann", address=three_failures)

    assert throttle.wait_s(door="d", name="ann", address=three_failures) > 0
    assert throttle.wait_s(door="d", name="ben", address=three_failures) == 0
    throttle._redis.cache_clear()


@pytest.mark.django_db
def test_sign_in_answers_429_even_with_the_right_password(three_failures: str):
    User.objects.create_user("ann", password=RIGHT, is_staff=True)
    browser = Client(REMOTE_ADDR=three_failures)

    for _ in range(3):
        assert browser.post("/admin/login/", {"username": "ann", "password": WRONG}).status_code == 200
    refused = browser.post("/admin/login/", {"username": "ann", "password": RIGHT})

    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= throttle.WINDOW_S
    elsewhere = Client(REMOTE_ADDR=f"{three_failures}x")
    assert elsewhere.post("/admin/login/", {"username": "ann", "password": RIGHT}).status_code == 302


@pytest.mark.django_db
def test_token_endpoint_answers_429(three_failures: str):
    client = Client(REMOTE_ADDR=three_failures)
    form = {"grant_type": "client_credentials", "client_id": "reader", "client_secret": WRONG}

    statuses = [client.post("/oauth/token", form).status_code for _ in range(4)]

    assert statuses == [401, 401, 401, 429]
    assert int(client.post("/oauth/token", form).headers["Retry-After"]) > 0
