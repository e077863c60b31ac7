"""However many rows a result has, the gateway keeps one page of it."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from gateway.session.context import SessionContext, StatementRequest
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.pipeline import authorise
from gateway.upstreams.bigquery_execution import BigQueryExecution
from gateway.upstreams.bigquery_sources import MAX_TOKENS, Described, Paging, RawPage
from tests.gateway.session.test_emergency import UPDATE, emergency_world, session

pytestmark = pytest.mark.usefixtures("settings")

PAGE = 200
VALUE = "a line of text that is as long as such lines are"
SLACK_BYTES = 64 * 1024


class ManyRows:
    """Fulfils `RowSource`: made when they are read."""

    def __init__(self, total: int) -> None:
        self.total = total

    async def start(self, request: StatementRequest, session: SessionContext) -> Described:
        return Described([{"name": "value", "type": "STRING"}], self.total)

    async def fetch(self, *, offset: int, max_results: int | None, int64_timestamps: bool) -> RawPage:
        rows = [{"f": [{"v": f"{number} {VALUE}"}]} for number in range(offset, offset + PAGE)]
        after = offset + PAGE
        return RawPage(rows, after if after < self.total else None)

    async def cancel(self) -> None:
        """Nothing runs."""


class Discarded:
    """Fulfils `RecordingSink` and `Recording`: counts, keeps nothing."""

    def __init__(self) -> None:
        self.written = 0
        self.behind = False

        self.has_room, self.crowded = True, False

    async def room(self) -> None:
        """There always is."""

    def open(self, *, session_id: str, statement_id: str, format: str) -> Discarded:
        return self

    def keep(self, session_id: str, statement_id: str, format: str, plaintext: bytes) -> str:
        self.write(plaintext)
        return "digest"

    def close_at_once(self) -> str | None:
        return None

    def write(self, data: bytes) -> None:
        self.written += len(data)

    async def drain(self) -> None:
        """Never behind."""

    async def close(self) -> str:
        return "digest"

    async def abort(self) -> None:
        """Nothing is kept."""


async def never(_permit: ExecutionPermit, _outcome: Outcome) -> None:
    raise AssertionError("nothing is read a second time here")


async def read(pages: int, *, keep: bool = False) -> tuple[int, int, int]:
    """Bytes kept and at most held by a result of so many pages, and rows it handed out."""
    world = emergency_world(UPDATE, lifts_masks=True)
    permit = await authorise(world.services, session(world), StatementRequest(UPDATE), world.client)
    assert permit is not None
    execution = BigQueryExecution(ManyRows(pages * PAGE), permit, recordings=Discarded(), read_again=never)
    await execution.run()
    offset: int | None = 0
    delivered, kept = 0, []
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    while offset is not None:
        page = await execution.page(offset=offset, max_results=None)
        delivered += len(page.rows)
        offset = page.next_offset
        if keep:
            kept.append(page)
        del page
    gc.collect()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert execution.ended.is_set()
    return after - before, peak - before, delivered


async def test_memory_is_one_pages_however_many_there_are() -> None:
    await read(2)  # what is made once is made
    few_kept, few_peak, few = await read(4)
    many_kept, many_peak, many = await read(40)
    control, _, _ = await read(40, keep=True)

    assert (few, many) == (4 * PAGE, 40 * PAGE)
    assert many_kept < few_kept + SLACK_BYTES
    assert many_peak < few_peak + SLACK_BYTES
    assert control > many_peak + 4 * SLACK_BYTES, "the control keeps nothing: the measure is broken"


def test_tokens_of_pages_long_read_are_forgotten() -> None:
    paging = Paging()

    for offset in range(10 * MAX_TOKENS):
        paging.read({"rows": [{}], "pageToken": f"t{offset}"}, offset=offset, total_rows=10**6)

    assert len(paging._tokens) == MAX_TOKENS
    last = 10 * MAX_TOKENS
    assert paging.query(offset=last, max_results=1, int64_timestamps=False)["pageToken"] == f"t{last - 1}"
    assert paging.query(offset=1, max_results=1, int64_timestamps=False)["startIndex"] == "1"
