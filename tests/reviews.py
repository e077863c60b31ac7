"""A reviewer at the REST API of the running product, for tests in which somebody must decide."""

from __future__ import annotations

import json
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
        timeout=60,
    )


def review(stack: Stack, url: str) -> dict[str, str]:
    answer = httpx.get(
        f"{stack.demo['web_url']}/api/v1/reviews/{review_id(url)}",
        headers={"Authorization": f"Bearer {reviewer(stack)}"},
        timeout=60,
    )
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    found: dict[str, str] = answer.json()
    return found


def pending_review(stack: Stack, mentions: str, *, within_s: float = 60) -> str:
    """The URL of the newest pending review whose statement has `mentions`: others' may be pending beside it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        answer = httpx.get(
            f"{stack.demo['web_url']}/api/v1/reviews?status=pending",
            headers={"Authorization": f"Bearer {reviewer(stack)}"},
            timeout=60,
        )
        listed = answer.json()
        for found in listed["results"] if isinstance(listed, dict) else listed:
            if mentions in json.dumps(review(stack, found["url"])):
                return str(found["url"])
        time.sleep(0.1)
    raise AssertionError(f"no pending review mentions {mentions}")
