"""What managers of secrets are asked over HTTP: bounded in size, never unpacked, and over within a time in all.

httpx bounds the time between two bytes. A manager that sends one every few seconds would otherwise keep whoever reads a
password, and behind it every session that needs one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from audit.foreign_answers import PLAIN, hung_up_after, read_plain

MAX_ANSWER_BYTES = 1 << 20
WHOLE_WITHIN_S = 15.0  # every request that reading one secret takes, a login among them


@dataclass(frozen=True, slots=True)
class Answer:
    """What a manager answered; nothing of it is shown."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Raises ValueError."""
        return json.loads(self.body)


class Asking:
    """The requests that reading one secret takes."""

    def __init__(self, client: httpx.Client, extensions: dict[str, Any], *, until: float) -> None:
        self._client, self._extensions, self._until = client, extensions, until

    def get(self, url: str, *, headers: Mapping[str, str]) -> Answer:
        """Raises httpx.HTTPError, also where there is no time left."""
        return self._ask("GET", url, headers=headers)

    def post(self, url: str, **content: Any) -> Answer:
        """`content` as httpx takes it. Raises httpx.HTTPError, also where there is no time left."""
        return self._ask("POST", url, **content)

    def _ask(self, method: str, url: str, **content: Any) -> Answer:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise httpx.ReadTimeout("no time left")
        with self._client.stream(method, url, extensions=self._extensions, **content) as response:
            body = read_plain(response, max_bytes=MAX_ANSWER_BYTES, within_s=left_s)
            return Answer(response.status_code, response.headers, body)


@contextmanager
def asking(*, timeout_s: float) -> Iterator[Asking]:
    """`timeout_s` bounds each step of a request, WHOLE_WITHIN_S all of them."""
    until = time.monotonic() + WHOLE_WITHIN_S
    with (
        hung_up_after(WHOLE_WITHIN_S) as extensions,
        httpx.Client(timeout=timeout_s, follow_redirects=False, trust_env=False, headers=PLAIN) as client,
    ):
        yield Asking(client, extensions, until=until)
