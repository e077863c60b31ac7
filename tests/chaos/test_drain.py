"""A gateway is told to stop while it is used: what was begun finishes and is recorded, nothing else begins."""

from __future__ import annotations

import json
import threading
import time
import uuid

import pytest

from tests.bypass.wire import Answer, ConnectionLost, Target, Wire
from tests.chaos.gateways import another_gateway
from tests.chaos.servers import Upstream, wait_until
from tests.chaos.test_chaos import entries_after, newest_seq
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


class Asked:
    """A statement on a connection of its own, answered in the background."""

    def __init__(self, target: Target, sql: str) -> None:
        self.wire = Wire(target, timeout_s=60)
        self.answer = Answer()
        self._thread = threading.Thread(target=self._ask, args=(sql,), daemon=True)
        self._thread.start()

    def _ask(self, sql: str) -> None:
        self.answer = self.wire.simple(sql)

    def finished(self) -> Answer:
        self._thread.join(60)
        self.wire.close()
        return self.answer


def runs(upstream: Upstream, mark: str) -> bool:
    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
    return upstream.query(f"{active} AND query LIKE '%{mark}%'") == [(1,)]


def authorised_and_ended(fragile: Stack, after: int) -> tuple[list[str], list[str]]:
    """Statements the log says began after that place, and how each of these ended: what was before may end now."""
    began = [str(json.loads(each)["statement"]) for each in entries_after(fragile, after, "statement.authorised")]
    ends = [json.loads(each) for each in entries_after(fragile, after, "statement.completed")]
    return began, [str(each["body"]["status"]) for each in ends if each["statement"] in began]


def accepts(target: Target) -> bool:
    try:
        Wire(target).close()
    except (ConnectionLost, OSError):
        return False
    return True


def test_what_was_begun_finishes_and_is_recorded(fragile: Stack, upstream: Upstream, far: Target) -> None:
    mark, before = uuid.uuid4().hex, newest_seq(fragile)
    with another_gateway(fragile, HOOPWEB_DRAIN_S="30") as gateway:
        there = gateway.reached_by(far)
        idle, transaction = Wire(there), Wire(there)
        assert transaction.simple("BEGIN").status == "T"
        running = Asked(there, f"SELECT '{mark}', pg_sleep(3)")
        wait_until(lambda: runs(upstream, mark), within_s=60, what="the statement to run")

        gateway.terminate()
        wait_until(lambda: gateway.readyz() == ["draining"], within_s=60, what="/readyz to tell")
        assert not accepts(there)
        told, farewell = idle.read_message()
        inserted = transaction.simple(f"INSERT INTO marks VALUES ('{mark}')")
        committed = transaction.simple("COMMIT")
        answer = running.finished()

        assert gateway.process.wait(60) == 0
    assert told == b"E"
    assert b"57P01" in farewell
    assert answer.rows == [(mark.encode(), b"")]
    assert (inserted.tags, committed.tags) == (["INSERT 0 1"], ["COMMIT"])
    assert upstream.query(f"SELECT count(*) FROM marks WHERE label = '{mark}'") == [(1,)]
    began, ended = authorised_and_ended(fragile, before)
    assert len(began) >= 4
    assert ended == ["completed"] * len(began)
    closed = entries_after(fragile, before, "session.closed")
    assert sum(b'"reason":"drained"' in entry for entry in closed) == 3


def test_second_signal_ends_at_once(fragile: Stack, upstream: Upstream, far: Target) -> None:
    mark, before = uuid.uuid4().hex, newest_seq(fragile)
    with another_gateway(fragile, HOOPWEB_DRAIN_S="600") as gateway:
        running = Asked(gateway.reached_by(far), f"SELECT '{mark}', pg_sleep(120)")
        wait_until(lambda: runs(upstream, mark), within_s=60, what="the statement to run")
        gateway.terminate()
        wait_until(lambda: gateway.readyz() == ["draining"], within_s=60, what="/readyz to tell")
        began = time.monotonic()
        gateway.terminate()
        answer = running.finished()

        assert gateway.process.wait(60) == 0
    assert time.monotonic() - began < 60
    assert answer.sqlstate == "57P01"
    assert not runs(upstream, mark)
    assert authorised_and_ended(fragile, before)[1] == ["cancelled"]
