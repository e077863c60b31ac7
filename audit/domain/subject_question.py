"""A question about subjects under way, sealed: what its next page, its CSV or its report need, and nothing typed.

The number somebody typed became tokens; they leave this process only sealed under the evidence key, bound to this use.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from audit.domain.accounting import AccountingProblem, Window
from audit.domain.box import SealProblem
from audit.domain.sealing import seal, unseal

_CONTEXT = "subject look-up"


@dataclass(frozen=True, slots=True)
class Question:
    """Of an accounting: by `tokens` of one kind (`name`). Without tokens: whose records the window shows."""

    window: Window
    name: str = ""
    tokens: tuple[bytes, ...] = ()
    after: str = ""

    def sealed(self, after: str = "") -> str:
        content = {"tokens": [t.hex() for t in self.tokens], "name": self.name, "window": self.window.said()}
        box = seal(json.dumps({**content, "after": after}).encode(), context=_CONTEXT)
        return base64.urlsafe_b64encode(box).decode()

    @classmethod
    def opened(cls, state: str) -> Question:
        """Raises AccountingProblem: whoever alters a sealed question gets no answer."""
        try:
            content = json.loads(unseal(base64.urlsafe_b64decode(state.encode()), context=_CONTEXT))
        except (SealProblem, binascii.Error, ValueError):
            raise AccountingProblem("the question cannot be continued; ask it again") from None
        said = content["window"]
        window = Window(
            since=datetime.fromisoformat(said["since"]),
            until=datetime.fromisoformat(said["until"]),
            subject=said["subject"],
            connection=said["connection"],
            session=said["session"],
        )
        tokens = tuple(bytes.fromhex(token) for token in content["tokens"])
        return cls(window, content["name"], tokens, str(content["after"]))

    def bounded(self, *, beginning: datetime) -> Question:
        """The same question with its open ends at the log's beginning and now, so that it has one answer."""
        now = datetime.now(UTC)
        window = replace(
            self.window, since=max(self.window.since, min(beginning, now)), until=min(self.window.until, now)
        )
        return replace(self, window=window) if window.since < window.until else self
