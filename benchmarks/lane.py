"""`python -m benchmarks.lane`: processor time of the gateway's own code for one remembered statement, no socket moved.

A session over sockets that only keep what is written; rules, analysis, record and journal (durability `os`) are the
real ones. What the kernel and the event loop cost comes on top. The best and the median of 40 rounds are printed: the
best is what the code needs, the distance to the median what the machine was busy with.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROUNDS, STATEMENTS = 40, 250
_PARSED, _BOUND = b"1\0\0\0\x04", b"2\0\0\0\x04"
QUERY, PREPARED = (f"SELECT abalance FROM pgbench_accounts WHERE aid = {value}" for value in ("1", "$1"))


def main() -> None:
    set_up()
    root = Path(tempfile.mkdtemp(prefix="hoopweb-lane-"))
    try:
        asyncio.run(_measure(root))
    finally:
        shutil.rmtree(root)


def set_up() -> None:
    import django  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "unused"}},
        HOOPWEB_EVIDENCE_KEYS=base64.b64encode(bytes(32)).decode(),
        HOOPWEB_ON_LOG_DAMAGE="alert",
        HOOPWEB_TOKEN_KEY="measured",
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "audit",
            "masking",
            "approvals",
            "gateway",
        ],
        USE_TZ=True,
    )
    django.setup()


class _Socket:
    """An asyncio transport that keeps the last thing written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data

    def get_extra_info(self, *_: object) -> None: ...

    def close(self) -> None: ...


async def _measure(root: Path) -> None:
    from audit.process_journal import ProcessJournal, open_journal  # noqa: PLC0415
    from audit.writer import AuditWriter  # noqa: PLC0415

    writer = AuditWriter()
    writer._journal = ProcessJournal(open_journal(root))
    writer._tasks = [asyncio.create_task(asyncio.sleep(0))]  # nothing is taken into a log
    client, upstream, to_client, to_upstream = await _session(writer)
    answers = {b"Q": _answer(), b"B": _BOUND + _answer(), b"P": _PARSED + _BOUND + _answer()}
    for mode in ("simple", "extended", "prepared"):
        requests = list(_requests(mode))
        taken = []
        for _ in range(ROUNDS + 1):
            began = time.process_time()
            for request in requests:
                to_upstream.written = to_client.written = b""
                client.data_received(request)
                if not to_upstream.written:
                    raise SystemExit(f"{mode}: not served in the express lane")
                upstream.data_received(answers[to_upstream.written[:1]])  # what was sent: parsing is spared
                if not to_client.written:
                    raise SystemExit(f"{mode}: no answer")
            taken.append((time.process_time() - began) / STATEMENTS * 1e6)
            writer._backlog.behind = 0
            writer._backlog.runs.clear()
            writer._journal.release(writer._journal.end)
        print(f"{mode:9} {min(taken[1:]):6.1f} us best {statistics.median(taken[1:]):6.1f} us median", flush=True)


def _requests(mode: str) -> Iterator[bytes]:
    from gateway.protocols.postgres import client  # noqa: PLC0415
    from gateway.protocols.postgres.client import Bind, Execute, Parse, Target  # noqa: PLC0415
    from gateway.protocols.postgres.frames import frame  # noqa: PLC0415

    tail = client.encode_describe(Target("P", "")) + client.encode_execute(Execute("", 0)) + client.SYNC_FRAME
    for number in range(10_000, 10_000 + STATEMENTS):
        text = QUERY.replace("= 1", f"= {number};")
        values = (b"%d" % number,)
        match mode:
            case "simple":
                yield frame(b"Q", text.encode() + b"\0")
            case "extended":
                made = client.encode_parse(Parse("", PREPARED, ()))
                yield made + client.encode_bind(Bind("", "", (), values, ())) + tail
            case _:
                yield client.encode_bind(Bind("", "P_0", (), values, ())) + tail


def _answer() -> bytes:
    from gateway.protocols.postgres.frames import frame  # noqa: PLC0415

    column = b"abalance\0" + struct.pack("!IhIhih", 16400, 3, 23, 4, -1, 0)
    row = struct.pack("!hi", 1, 1) + b"0"
    described = frame(b"T", struct.pack("!h", 1) + column)
    ended = frame(b"D", row) + frame(b"C", b"SELECT 1\0") + frame(b"Z", b"I")
    return described + ended


def _rules() -> Any:
    """One connection that agents may read, and nothing is masked."""
    from analysis.statement import Operation  # noqa: PLC0415
    from approvals.domain.decide import AccessRule  # noqa: PLC0415
    from gateway.domain.snapshot import ConnectionSpec, Snapshot  # noqa: PLC0415
    from gateway.session.state import SnapshotState  # noqa: PLC0415

    spec = ConnectionSpec(
        name="bench", kind="postgres", phi=False, scan_text=False, recording="metadata", durability="os"
    )
    rules = SnapshotState()
    rules._max_age_s, rules._loaded_at = float("inf"), 0.0
    rules._snapshot = Snapshot(
        version=1,
        loaded_at=time.monotonic(),
        connections=MappingProxyType({"bench": spec}),
        access_rules=(AccessRule(frozenset({"agents"}), ("bench",), frozenset({Operation.READ}), "agents"),),
        policies=(),
        masking_rules=(),
        agents=MappingProxyType({}),
        people=MappingProxyType({}),
    )
    return rules


async def _session(writer: Any) -> tuple[Any, Any, _Socket, _Socket]:
    """A session at rest that has seen both statements once."""
    from analysis.fingerprint import skeleton  # noqa: PLC0415
    from analysis.statement import Analysis, ColumnRef, Facts, Operation, Origin, Output, Statement, TableRef, Transform  # noqa: PLC0415
    from approvals.domain.request import Principal  # noqa: PLC0415
    from audit.live import MAX_ALIKE, LiveRecord  # noqa: PLC0415
    from gateway.listeners.postgres_client import ClientConnection  # noqa: PLC0415
    from gateway.listeners.postgres_express import ExpressLane  # noqa: PLC0415
    from gateway.listeners.postgres_names import Prepared  # noqa: PLC0415
    from gateway.listeners.postgres_session import ClientSession  # noqa: PLC0415
    from gateway.listeners.postgres_timers import SessionLimits  # noqa: PLC0415
    from gateway.session.assessment import assess  # noqa: PLC0415
    from gateway.session.context import SessionContext, StatementRequest  # noqa: PLC0415
    from gateway.session.remembered import remember  # noqa: PLC0415
    from gateway.session.services import Services  # noqa: PLC0415
    from gateway.upstreams.postgres import UpstreamConnection  # noqa: PLC0415
    from gateway.upstreams.postgres_analyst import PostgresAnalyst, _place  # noqa: PLC0415
    from gateway.upstreams.postgres_side import PostgresSide  # noqa: PLC0415

    rules = _rules()
    spec = rules.current().connections["bench"]

    class Reviews:
        def keep_inputs(self, *_: object) -> str:
            return "d" * 64

    record = LiveRecord(writer)
    record._waiting = [{}] * MAX_ALIKE  # a burst: nobody is told of every statement
    analyst: Any = PostgresAnalyst(None)  # type: ignore[arg-type]
    services = Services(snapshots=rules, analysts={"postgres": analyst}, reviews=Reviews(), record=record)  # type: ignore[arg-type]
    principal = Principal("agent", "https://issuer", frozenset({"agents"}))
    context = SessionContext(principal, spec, "postgres", role="bench", search_path="public")
    side: Any = PostgresSide(spec, None)  # type: ignore[arg-type]
    side.catalogue, side._poller, side._checked_at = object(), object(), float("inf")
    analyst._sides[_place(spec)] = side
    column = ColumnRef("public", "pgbench_accounts", "abalance")
    read = Analysis(
        statement=Statement(QUERY),
        kind="SELECT",
        fingerprint="f" * 32,
        complete=True,
        operations=frozenset({Operation.READ}),
        tables_read=frozenset({TableRef("public", "pgbench_accounts")}),
        reads=frozenset({column}),
        outputs=(Output("abalance", (Origin(column, Transform.IDENTITY),)),),
        facts=Facts(row_bound=1),
    )
    for text, key in ((QUERY, "~" + skeleton(QUERY)), (PREPARED, "=" + PREPARED)):
        analysis = replace(read, statement=Statement(text))
        side.analyses.keep((key, (), context.role, context.search_path), analysis)

        async def analyse(_session: object, _statement: object, analysis: Analysis = analysis) -> Analysis:
            return analysis

        analyst.analyse = analyse
        request = StatementRequest(text=text)
        remember(services, context, request, await assess(services, context, request))

    async def nobody(_: object) -> None: ...

    client, upstream = ClientConnection(nobody), UpstreamConnection()
    to_client, to_upstream = _Socket(), _Socket()
    client.connection_made(to_client)  # type: ignore[arg-type]
    upstream.connection_made(to_upstream)  # type: ignore[arg-type]
    upstream.parameters["standard_conforming_strings"] = "on"
    session = ClientSession(
        services=services,
        context=context,
        connection=client,
        upstream=upstream,
        recordings=None,
        limits=SessionLimits(),
    )
    session.meaning.unsettled, session.resting = False, True
    session.statements.commit("P_0", Prepared("P_0", PREPARED, (), None, fixed=True))
    session.statements.standing("P_0").analysis = replace(read, statement=Statement(PREPARED))
    client.accept_statements()
    client.express = ExpressLane(session).door
    return client, upstream, to_client, to_upstream


if __name__ == "__main__":
    main()
