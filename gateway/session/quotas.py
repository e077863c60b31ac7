"""Quotas at the only door to an execution: who may begin a statement now, and what it used when it ended.

The counts of all data-plane processes are in Redis. A process leases statements in small batches and spends them
without asking, so a remembered statement costs an agent with a quota one comparison, and one without a quota nothing.
Rows and bytes are counted when a statement ends; the next one is refused. Fail closed: what cannot be counted is not
run, for agents that have a quota.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.domain.quotas import LIMITS, QuotaRule
from gateway.session.context import SessionContext

IDLE_S = 2.0  # a lease nobody spends for this long is given back
DAY_S = 86_400


class QuotaExceeded(Exception):
    """No statement now. `limit` is the field of the rule; `retry_after_s` when trying again makes sense."""

    def __init__(self, rule: QuotaRule, limit: str, retry_after_s: float) -> None:
        super().__init__(limit)
        self.rule, self.limit, self.retry_after_s = rule, limit, max(1, math.ceil(retry_after_s))

    @property
    def reason(self) -> str:
        return f"the quota {self.rule.name} of {getattr(self.rule, self.limit)} {LIMITS[self.limit]} is used up"


class QuotasUnavailable(Exception):
    """The shared counts cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """An answer of the shared counts: statements granted, else for how many seconds there are none, and of which."""

    granted: int
    rows: int  # of the whole day, everywhere
    bytes: int
    wait_s: float = 0.0
    limit: str = ""


class Counts(Protocol):
    """What all processes share, by (rule, principal). Every method raises QuotasUnavailable."""

    async def lease(self, key: str, rule: QuotaRule, *, want: int, rows: int, bytes_: int) -> Lease:
        """Add `rows` and `bytes_` to the day and take up to `want` statements."""

    async def give_back(self, key: str, rule: QuotaRule, statements: int) -> None: ...

    async def take_slot(self, key: str, rule: QuotaRule, member: str) -> bool:
        """Hold (or go on holding) one of the rule's places for `SLOT_TTL_S`."""

    async def free_slot(self, key: str, member: str) -> None: ...


class Admission:
    """One statement that was let in; `finish` says what it used. Held for review it takes no place."""

    __slots__ = ("_allowances", "_ended", "_running")

    def __init__(self, allowances: tuple[Allowance, ...]) -> None:
        self._allowances = allowances
        self._running = True
        self._ended = False

    def pause(self) -> None:
        """It waits for people, who may take an hour."""
        if self._running:
            self._running = False
            for allowance in self._allowances:
                allowance.running -= 1

    def go_on(self) -> None:
        """People let it run: it is not refused for a place now, but counts as running."""
        if not self._running and not self._ended:
            self._running = True
            for allowance in self._allowances:
                allowance.running += 1

    def finish(self, rows: int = 0, bytes_: int = 0) -> None:
        """Only the first end counts."""
        if self._ended:
            return
        self.pause()
        self._ended = True
        for allowance in self._allowances:
            allowance.used(rows, bytes_)


FREE = Admission(())  # of whoever no quota names: shared, it counts nothing


class Allowance:
    """What this process may still spend of one rule for one principal."""

    def __init__(self, key: str, rule: QuotaRule, counts: Counts, *, holder: str, clock: Callable[[], float]) -> None:
        self.key, self.rule = key, rule
        self.running = 0  # statements of this process that were let in and have not ended
        self._counts = counts
        self._holder = holder
        self._clock = clock
        self._day = -1
        self._left = 0
        self._slots = 0
        self._rows = self._bytes = 0  # of the day, as last heard
        self._new_rows = self._new_bytes = 0  # not told yet
        self._touched = 0.0
        few = [limit for limit in (rule.statements_per_minute, (rule.statements_per_day or 0) // 10 or None) if limit]
        self._batch = max(1, min(200, min(few) // 20)) if few else 1
        self._leases = bool(rule.statements_per_minute or rule.statements_per_day)
        self._measures = bool(rule.rows_per_day or rule.bytes_per_day)

    @property
    def idle(self) -> bool:
        """Nothing runs, nothing is left to tell or to give back."""
        return not (self.running or self._left or self._slots or self._new_rows or self._new_bytes)

    def ready(self) -> bool:
        """Whether the next statement may begin without asking anybody."""
        if self._clock() // DAY_S != self._day:
            return False
        if self._leases and not self._left:
            return False
        if self._measures and self._over():
            return False
        return self.rule.concurrent_statements is None or self.running < self._slots

    def enter(self) -> None:
        """Begin a statement; only when `ready`."""
        self.running += 1
        self._touched = self._clock()
        if self._leases:
            self._left -= 1

    def undo(self) -> None:
        """Another rule refused the statement that began here."""
        self.running -= 1
        if self._leases:
            self._left += 1

    def used(self, rows: int, bytes_: int) -> None:
        if self._measures:
            self._new_rows += rows
            self._new_bytes += bytes_

    async def prepare(self) -> None:
        """Make it `ready`, or raise QuotaExceeded."""
        today = int(self._clock() // DAY_S)
        if today != self._day or (self._leases and not self._left) or (self._measures and self._over()):
            await self._lease(today)
        if self._measures and (limit := self._over()):
            raise QuotaExceeded(self.rule, limit, self._until_tomorrow())
        if self.rule.concurrent_statements is not None and self.running >= self._slots:
            await self._take_slot()

    async def tend(self) -> None:
        """Tell what was used, keep places that are in use, give back what nobody uses."""
        if self._new_rows or self._new_bytes:
            await self._lease(int(self._clock() // DAY_S), want=0)
        unused = self._clock() - self._touched > IDLE_S
        if unused and self._left:
            left, self._left = self._left, 0
            if self._clock() // DAY_S == self._day:  # else today would get back what yesterday counted
                await self._counts.give_back(self.key, self.rule, left)
        while unused and self._slots > self.running:
            self._slots -= 1
            await self._counts.free_slot(self.key, self._member(self._slots))
        for place in range(self._slots):
            await self._counts.take_slot(self.key, self.rule, self._member(place))

    async def _lease(self, today: int, want: int | None = None) -> None:
        rows, self._new_rows = self._new_rows, 0
        bytes_, self._new_bytes = self._new_bytes, 0
        asked = want if want is not None else (self._batch if self._leases else 0)
        try:
            lease = await self._counts.lease(self.key, self.rule, want=asked, rows=rows, bytes_=bytes_)
        except QuotasUnavailable:
            self._new_rows += rows
            self._new_bytes += bytes_
            raise
        self._left = lease.granted + (self._left if today == self._day else 0)
        self._day, self._rows, self._bytes = today, lease.rows, lease.bytes
        if asked and not self._left:
            raise QuotaExceeded(self.rule, lease.limit, lease.wait_s)

    async def _take_slot(self) -> None:
        member = self._member(self._slots)
        if not await self._counts.take_slot(self.key, self.rule, member):
            raise QuotaExceeded(self.rule, "concurrent_statements", 1)
        self._slots += 1

    def _member(self, place: int) -> str:
        return f"{self._holder}:{place}"

    def _over(self) -> str:
        """The limit of the day that is reached, if one is."""
        rule = self.rule
        if rule.rows_per_day is not None and self._rows + self._new_rows >= rule.rows_per_day:
            return "rows_per_day"
        if rule.bytes_per_day is not None and self._bytes + self._new_bytes >= rule.bytes_per_day:
            return "bytes_per_day"
        return ""

    def _until_tomorrow(self) -> float:
        return DAY_S - self._clock() % DAY_S


@dataclass(slots=True)
class Quotas:
    """Of one process. `admit_now` never waits: None means "ask `admit`"."""

    counts: Counts
    holder: str
    clock: Callable[[], float] = time.time
    _allowances: dict[str, Allowance] = field(default_factory=dict)
    _rules: tuple[QuotaRule, ...] = ()
    _found: dict[tuple[str, str, str | None, str], tuple[Allowance, ...]] = field(default_factory=dict)

    def admit_now(self, session: SessionContext, rules: tuple[QuotaRule, ...]) -> Admission | None:
        if not rules:
            return FREE
        allowances = self._of(session, rules)
        if not all(allowance.ready() for allowance in allowances):
            return None
        return self._enter(allowances)

    async def admit(self, session: SessionContext, rules: tuple[QuotaRule, ...]) -> Admission:
        """Raises QuotaExceeded and QuotasUnavailable."""
        if not rules:
            return FREE
        allowances = self._of(session, rules)
        entered: list[Allowance] = []
        try:
            for allowance in allowances:
                while not allowance.ready():  # somebody else may have spent what was just prepared
                    await allowance.prepare()
                allowance.enter()
                entered.append(allowance)
        except BaseException:
            for allowance in entered:
                allowance.undo()
            raise
        return Admission(allowances) if allowances else FREE

    async def tend(self) -> None:
        """Once a second: what every allowance has to tell. Raises QuotasUnavailable."""
        for key, allowance in list(self._allowances.items()):
            await allowance.tend()
            if allowance.idle:
                self._allowances.pop(key)
                self._found.clear()

    def _enter(self, allowances: tuple[Allowance, ...]) -> Admission:
        if not allowances:
            return FREE
        for allowance in allowances:
            allowance.enter()
        return Admission(allowances)

    def _of(self, session: SessionContext, rules: tuple[QuotaRule, ...]) -> tuple[Allowance, ...]:
        if rules is not self._rules:
            self._rules = rules
            self._found.clear()
        principal, connection = session.principal, session.connection.name
        who = (principal.issuer, principal.subject, principal.actor, connection)
        found = self._found.get(who)
        if found is None:
            covering = [rule for rule in rules if rule.covers(principal, connection)]
            found = self._found[who] = tuple(self._allowance(rule, who[:3]) for rule in covering)
        return found

    def _allowance(self, rule: QuotaRule, who: tuple[str, str, str | None]) -> Allowance:
        key = "\x1f".join([rule.name, *(part or "" for part in who)])
        known = self._allowances.get(key)
        if known is None or known.rule != rule:
            known = self._allowances[key] = Allowance(key, rule, self.counts, holder=self.holder, clock=self.clock)
        return known
