"""Step-up: decisions need somebody who proved themselves a short while ago. Refusals begin from what is taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import Group, User
from django.test import Client
from rest_framework.test import APIClient

from approvals.domain.policies import save_policy
from approvals.domain.refusal import Refusal
from approvals.domain.review import decide_review
from approvals.domain.step_up import SESSION_KEY, is_fresh, limit_of
from approvals.models import EmergencyRoster, Grant, Policy, Review
from audit.models import LogEntry
from gateway.domain.tokens import issue_person_token
from gateway.models import Connection
from tests.approvals.factories import held
from tests.hoopweb.provider import Provider, running_provider

PASSWORD = "correct horse"
LIMIT_S = 900


@pytest.fixture(autouse=True)
def on(settings: Any) -> None:
    settings.HOOPWEB_STEP_UP_S = LIMIT_S


@pytest.fixture
def reviewer(db: None) -> User:
    user = User.objects.create_user("reviewer", password=PASSWORD)
    user.groups.add(Group.objects.get_or_create(name="privacy-officers")[0])
    return user


@pytest.fixture
def browser(reviewer: User) -> Client:
    client = Client()
    assert client.login(username="reviewer", password=PASSWORD)
    return client


def age(client: Client, seconds: float) -> None:
    session = client.session
    session[SESSION_KEY] -= seconds
    session.save()


def decide(client: Client, review: Review) -> Any:
    answer = {"decision": "approve", "reason": "looked at it", "round": 1, "scope": "once"}
    return client.post(f"/reviews/{review.pk}/", answer)


def status_of(review: Review) -> str:
    review.refresh_from_db()
    return str(review.status)


def test_fresh_sign_in_decides_and_an_old_one_is_led_to_confirm(browser: Client) -> None:
    first, second = held(), held(statement="UPDATE patients SET phone = NULL WHERE id = 8")
    assert b"confirm that it is you" not in browser.get(f"/reviews/{first.pk}/").content
    assert decide(browser, first).status_code == 303

    age(browser, LIMIT_S + 1)
    refused = decide(browser, second)

    assert (refused.status_code, status_of(second)) == (403, "pending")
    assert f"/step-up/?next=/reviews/{second.pk}/".encode() in refused.content
    assert browser.get(f"/reviews/{second.pk}/").status_code == 200  # reading needs nothing


def test_password_confirms_and_brings_back(browser: Client) -> None:
    review = held()
    age(browser, LIMIT_S + 1)
    before = browser.session.session_key
    onward = f"/reviews/{review.pk}/"

    wrong = browser.post("/step-up/", {"password": "wrong", "next": onward})
    assert (wrong.status_code, decide(browser, review).status_code) == (200, 403)
    response = browser.post("/step-up/", {"password": PASSWORD, "next": onward})

    assert (response.status_code, response["Location"]) == (302, onward)
    assert browser.session.session_key != before
    assert (decide(browser, review).status_code, status_of(review)) == (303, "approved")
    assert LogEntry.objects.filter(kind="person.stepped_up").count() == 1
    assert LogEntry.objects.filter(kind="authentication.failed").count() == 1


def test_guesses_at_step_up_are_slowed_down_like_those_at_signing_in(browser: Client, settings: Any) -> None:
    settings.HOOPWEB_FAILURES_PER_NAME = 2
    address = {"REMOTE_ADDR": "192.0.2.99"}
    for _ in range(2):
        browser.post("/step-up/", {"password": "wrong"}, **address)

    assert b"oo many failures" in browser.post("/step-up/", {"password": PASSWORD}, **address).content


@pytest.mark.parametrize("onward", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_confirming_leads_nowhere_else(browser: Client, onward: str) -> None:
    assert browser.post("/step-up/", {"password": PASSWORD, "next": onward}).status_code == 400


def test_nobody_confirms_without_being_signed_in(db: None) -> None:
    assert Client().post("/step-up/", {"password": PASSWORD})["Location"].startswith("/admin/login/")


def bearer(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def over_rest(client: APIClient, review: Review) -> Any:
    answer = {"decision": "approve", "reason": "looked at it"}
    return client.post(f"/api/v1/reviews/{review.pk}/decision", answer, format="json")


@pytest.mark.parametrize("at", [None, -LIMIT_S - 5, 3600])
def test_token_of_an_old_sign_in_decides_nothing(reviewer: User, at: float | None) -> None:
    review = held()
    moment = None if at is None else time.time() + at

    refused = over_rest(bearer(issue_person_token(reviewer, authenticated_at=moment)), review)

    assert (refused.status_code, refused.json()["code"], status_of(review)) == (403, "step-up-required", "pending")
    assert "insufficient_user_authentication" in refused["WWW-Authenticate"]
    fresh = bearer(issue_person_token(reviewer, authenticated_at=time.time()))
    assert over_rest(fresh, review).status_code == 200


def test_token_bought_by_an_old_session_is_as_old(browser: Client) -> None:
    """Or a token would launder a browser somebody left open."""
    review = held()
    age(browser, LIMIT_S + 1)
    token = browser.post("/api/v1/tokens").json()["token"]

    assert over_rest(bearer(token), review).status_code == 403
    browser.post("/step-up/", {"password": PASSWORD})
    assert over_rest(bearer(browser.post("/api/v1/tokens").json()["token"]), review).status_code == 200


def test_door_that_knows_no_moment_decides_nothing(reviewer: User) -> None:
    """Slack's way: the domain is called without one."""
    review = held()

    with pytest.raises(Refusal) as refused:
        decide_review(review=review, reviewer=reviewer, decision="approve", reason="x", through="slack:x:1/2")

    assert (refused.value.code, status_of(review)) == ("step-up-required", "pending")


def test_switched_off_it_asks_nobody(reviewer: User, settings: Any) -> None:
    settings.HOOPWEB_STEP_UP_S = 0
    review = held()

    assert over_rest(bearer(issue_person_token(reviewer)), review).status_code == 200


def test_refusal_is_not_the_keys_answer_once_they_confirmed(browser: Client) -> None:
    """The same request with the same Idempotency-Key is done then, and answered again after that."""
    review = held()
    key = {"HTTP_IDEMPOTENCY_KEY": "k-1"}
    answer = {"decision": "approve", "reason": "looked at it"}
    place = f"/api/v1/reviews/{review.pk}/decision"
    age(browser, LIMIT_S + 1)
    refused = browser.post(place, answer, content_type="application/json", **key)
    assert (refused.status_code, refused.json()["code"]) == (403, "step-up-required")

    browser.post("/step-up/", {"password": PASSWORD})
    done = browser.post(place, answer, content_type="application/json", **key)
    again = browser.post(place, answer, content_type="application/json", **key)

    assert (done.status_code, status_of(review)) == (200, "approved")
    assert (again.status_code, again["Idempotency-Replayed"]) == (200, "true")  # the control: others are replayed


def policy_asking(step_up_s: int | None) -> str:
    policy = Policy(name="phi-writes", connections=["*"], action="require_approval", reviewers=["privacy-officers"])
    policy.step_up_s = step_up_s
    version = save_policy(policy=policy, author="ann")
    assert version is not None
    return f"phi-writes@{version.number}"


@pytest.mark.parametrize(
    ("installation_s", "policy_s", "limit_s"),
    [(900, 60, 60), (0, 60, 60), (900, None, 900), (60, 900, 60), (0, None, 0)],
)
def test_policy_asks_for_more_and_never_for_less(
    db: None, settings: Any, installation_s: int, policy_s: int | None, limit_s: int
) -> None:
    settings.HOOPWEB_STEP_UP_S = installation_s
    review = held()
    review.policies = [policy_asking(policy_s)]

    assert limit_of(review) == limit_s


def test_decision_under_a_policy_that_asks_for_more(browser: Client, settings: Any) -> None:
    settings.HOOPWEB_STEP_UP_S = 0
    review, other = held(), held(statement="UPDATE patients SET phone = NULL WHERE id = 8")
    Review.objects.filter(pk=review.pk).update(policies=[policy_asking(60)])
    age(browser, 61)

    assert (decide(browser, review).status_code, decide(browser, other).status_code) == (403, 303)
    assert b"confirm that it is you" in browser.get(f"/reviews/{review.pk}/").content
    browser.post("/step-up/", {"password": PASSWORD})
    assert decide(browser, review).status_code == 303


def test_revocation_needs_it_as_the_decision_did(browser: Client) -> None:
    decide(browser, held())
    grant = Grant.objects.get()
    age(browser, LIMIT_S + 1)

    browser.post(f"/reviews/grants/{grant.pk}/revoke/")
    over_api = browser.post(f"/api/v1/grants/{grant.pk}/revoke", content_type="application/json")
    grant.refresh_from_db()
    assert (grant.revoked, over_api.status_code) == (False, 403)
    assert b"confirm that it is you" in browser.get("/reviews/grants/").content

    browser.post("/step-up/", {"password": PASSWORD})
    browser.post(f"/reviews/grants/{grant.pk}/revoke/")
    grant.refresh_from_db()
    assert grant.revoked


def test_breaking_the_glass_needs_it_and_going_back_to_normal_does_not(browser: Client) -> None:
    Connection.objects.create(name="clinic", kind="postgres", host="127.0.0.1", port=1, database="c", username="u")
    EmergencyRoster.objects.create(name="icu", connections=["clinic"], members=["reviewer"], reviewers=["auditors"])
    asked = {"connection": "clinic", "reason": "patient in shock, record needed"}
    age(browser, LIMIT_S + 1)

    refused = browser.post("/api/v1/emergencies", asked, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (403, "step-up-required")
    assert b"confirm that it is you" in browser.get("/reviews/emergencies/").content

    browser.post("/step-up/", {"password": PASSWORD})
    opened = browser.post("/api/v1/emergencies", asked, content_type="application/json")
    assert opened.status_code == 201, opened.content
    age(browser, LIMIT_S + 1)
    ended = browser.post(f"/api/v1/emergencies/{opened.json()['id']}/end", content_type="application/json")
    assert ended.status_code == 200


# --- A provider's people ---------------------------------------------------------------------------------------------


@pytest.fixture
def provider(db: None, settings: Any) -> Iterator[Provider]:
    with running_provider(configured.OIDC_RP_CLIENT_ID) as running:
        running.configure(settings)
        yield running


def test_provider_is_asked_to_ask_again_and_its_moment_counts(provider: Provider) -> None:
    Group.objects.get_or_create(name="privacy-officers")
    client, groups, now = Client(), ["privacy-officers"], int(time.time())
    provider.sign_in(client, groups=groups, auth_time=now - 2 * LIMIT_S)  # single sign-on of this morning
    assert "max_age" not in provider.asked
    review = held()
    assert decide(client, review).status_code == 403

    away = client.get("/step-up/", {"next": f"/reviews/{review.pk}/"})
    assert away["Location"].startswith("/oidc/authenticate/")
    provider.sign_in(client, away["Location"], groups=groups, auth_time=now - 2 * LIMIT_S)  # it did not ask
    assert (provider.asked["max_age"], provider.asked["prompt"]) == (["0"], ["login"])
    assert decide(client, review).status_code == 403
    back = provider.sign_in(client, away["Location"], groups=groups, auth_time=now)

    assert back["Location"] == f"/reviews/{review.pk}/"
    assert (decide(client, review).status_code, status_of(review)) == (303, "approved")


@pytest.mark.parametrize("said", [None, "now", True, [1], 1e300])
def test_provider_that_does_not_say_when_is_not_believed(provider: Provider, said: Any) -> None:
    Group.objects.get_or_create(name="privacy-officers")
    client = Client()
    provider.sign_in(client, "/oidc/authenticate/?step_up=1", groups=["privacy-officers"], auth_time=said)

    assert decide(client, held()).status_code == 403


def test_moments_ahead_of_us_are_no_moments() -> None:
    assert is_fresh(time.time() + 30)
    assert not is_fresh(time.time() + 3600)
    assert not is_fresh(float("nan"))
