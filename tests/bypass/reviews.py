"""A reviewer at the REST API, for tests in which somebody must decide."""

from __future__ import annotations

import time

import httpx

from tests.stack import Stack


def reviewer(stack: Stack) -> str:
    return str(stack.demo["users"]["reviewer"]["token"])


def review_id(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[-1]


def decide(stack: Stack, url: str, decision: str) -> None:
    answer = post_decision(stack, url, decision, token=reviewer(stack))
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"


def post_decision(stack: Stack, url: str, decision: str, *, token: str) -> httpx.Response:
    return httpx.post(
        f"{stack.demo['web_url']}/api/v1/reviews/{review_id(url)}/decision",
        headers={"Authorization": f"Bearer {token}"},
        json={"decision": decision, "reason": "bypass suite"},
        timeout=30,
    )


def review(stack: Stack, url: str) -> dict[str, str]:
    answer = httpx.get(
        f"{stack.demo['web_url']}/api/v1/reviews/{review_id(url)}",
        headers={"Authorization": f"Bearer {reviewer(stack)}"},
        timeout=30,
    )
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    found: dict[str, str] = answer.json()
    return found


def pending_review(stack: Stack) -> str:
    """The URL of the newest pending review."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = httpx.get(
            f"{stack.demo['web_url']}/api/v1/reviews?status=pending",
            headers={"Authorization": f"Bearer {reviewer(stack)}"},
            timeout=30,
        )
        listed = answer.json()
        reviews = listed["results"] if isinstance(listed, dict) else listed
        if reviews:
            return str(reviews[0]["url"])
        time.sleep(0.1)
    raise AssertionError("no review became pending")
