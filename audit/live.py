"""What is recorded, told to whoever watches the console at this moment. Ids, names and counts; never a text or a value.

Events are collected and sent a few times a second as one message, so that watching costs the data path the same whether
one statement runs or thousands. Telling is no record: when the channel layer is slow or gone, events are dropped and
counted, and the log is unaffected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from channels.layers import get_channel_layer

from audit.domain.damage import SERVING
from audit.domain.entry import Answer, Entry, Json, Receipt
from audit.domain.state import LiveState
from audit.domain.template import Filling, Template, Whole

try:
    from audit.domain._fast import Alike
except ImportError:  # nobody compiled it: `gateway.protocols.postgres.compile`
    Alike = None  # type: ignore[assignment,misc]

logger = logging.getLogger(__name__)

GROUP = "events"
EVERY_S = 0.2
MAX_WAITING = 500
# Of remembered statements so many a message: the page shows 200 lines, and spelling each costs what serving it does.
MAX_ALIKE = 40
_TOLD = (
    "subject", "actor", "owner", "connection", "protocol", "reason", "code", "rule", "decision", "kind", "status",
    "rows", "review", "client_address", "application", "claimed_subject", "tables_read", "tables_written",
)  # fmt: skip


class Record(Protocol):
    """`gateway.session.services.Record`, which is above this app."""

    async def append(self, entry: Entry) -> Receipt: ...

    def append_later(self, entry: Entry) -> None: ...


class LiveRecord(LiveState):
    """A record that also tells. Fulfils `gateway.session.services.Record`."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._waiting = []
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None
        # The doors of many alike in one step, for who has compiled it and asks.
        self.alike = (
            None if Alike is None or not hasattr(record, "most_behind") else Alike(self, record, SERVING, MAX_ALIKE)
        )

    async def append(self, entry: Entry) -> Receipt:
        receipt = await self._record.append(entry)
        self._tell(entry)  # only what is durable is told
        return receipt

    def append_now(self, entry: Entry) -> Receipt | None:
        """The door of a record with a journal; a record without one answers None, and `append` is used."""
        now: Callable[[Entry], Receipt | None] | None = getattr(self._record, "append_now", None)
        receipt = now(entry) if now is not None else None
        if receipt is not None:
            self._tell(entry)
        return receipt

    def append_like(self, template: Template, filling: Filling, whole: Whole) -> Receipt | None:
        """The same of an entry that is one of many alike; `whole` spells it when somebody is told."""
        like: Callable[[Template, Filling], Receipt | None] | None = getattr(self._record, "append_like", None)
        receipt = like(template, filling) if like is not None else None
        if receipt is not None:
            self._tell_like(whole)
        return receipt

    def append_soon(self, template: Template, filling: Filling, whole: Whole, answer: Answer) -> None:
        """`append` of an entry that is one of many alike, answered by a call. Raises where there is no such door."""
        soon: Callable[[Template, Filling, Whole, Answer], None] | None = getattr(self._record, "append_soon", None)
        if soon is None:
            raise NotImplementedError("this record answers those who wait")

        def told(answered: Receipt | Exception) -> None:
            if isinstance(answered, Receipt):
                self._tell_like(whole)
            answer(answered)

        soon(template, filling, whole, told)

    def append_like_later(self, template: Template, filling: Filling, whole: Whole) -> bool:
        later: Callable[[Template, Filling], bool] | None = getattr(self._record, "append_like_later", None)
        kept = later is not None and later(template, filling)
        if kept:
            self._tell_like(whole)
        return kept

    def append_later(self, entry: Entry) -> None:
        self._record.append_later(entry)
        self._tell(entry)

    def _tell_like(self, whole: Whole) -> None:
        if len(self._waiting) >= MAX_ALIKE:  # what happens seldom, an opened session or a denial, still finds room
            self._dropped += 1
        else:
            self._tell(whole())

    def _tell(self, entry: Entry) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(event_of(entry))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_soon(), name="live-events")

    async def _send_soon(self) -> None:
        await asyncio.sleep(EVERY_S)
        events, self._waiting = self._waiting, []
        dropped, self._dropped = self._dropped, 0
        message: dict[str, Any] = {"type": "entries", "entries": events, "dropped": dropped}
        try:
            await asyncio.wait_for(
                get_channel_layer().group_send(GROUP, {"type": "live.event", "event": message}), timeout=2
            )
        except Exception as error:  # nobody is told; everything is recorded
            logger.debug("live events dropped: count=%s error=%s", len(events), type(error).__name__)
        if self._waiting:  # collected while sending
            self._task = asyncio.create_task(self._send_soon(), name="live-events")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def event_of(entry: Entry) -> dict[str, Json]:
    """The part of an entry that is told."""
    body: Mapping[str, Json] = entry.body
    masked = body.get("masked")
    counts: dict[str, Json] = {"masked": len(masked)} if isinstance(masked, list) else {}
    return {
        "event": entry.kind,
        "at_us": entry.at_us,
        "session": entry.session_id,
        "statement": entry.statement_id,
        **{name: body[name] for name in _TOLD if name in body},
        **counts,
    }
