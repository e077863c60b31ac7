"""A gateway in one event loop over the test run's PostgreSQL, with in-memory doors: rules, analysis, reviews, record.

The analysis here is a table of texts, so that these tests are about the wire: what SQL means is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from analysis.estimate import UNKNOWN, RowsExpected
from analysis.statement import (
    Analysis,
    ColumnRef,
    CopyFormat,
    Operation,
    Origin,
    Output,
    Statement,
    Transform,
)
from approvals.domain.decide import AccessRule, Action, Condition, PolicyRule
from approvals.domain.request import AccessRequest, Binding, GrantClaim, Principal, ReviewerGroup
from audit.domain.entry import Answer, Entry, Receipt
from audit.domain.template import Filling, Template, Whole
from gateway.domain.snapshot import ConnectionSpec, Snapshot
from gateway.listeners.postgres import Limits, PostgresListener
from gateway.session.context import SessionContext
from gateway.session.registry import SessionRegistry
from gateway.session.services import (
    Analyst,
    AuthenticationFailed,
    PreparedTransactions,
    Recollection,
    ReviewRefused,
    Services,
)
from gateway.session.transport import PendingReview
from masking.domain.rules import Inference, MaskingRule, Technique
from tests.services import SUPERUSER_DSN

DATABASE = f"wire_{os.getpid()}"  # of this process: workers of one run write the same tables
_SERVER = conninfo_to_dict(os.environ[SUPERUSER_DSN])
HOST, PORT = str(_SERVER["host"]), int(str(_SERVER["port"]))
USER, PASSWORD = str(_SERVER["user"]), str(_SERVER["password"])
TOKEN = "a-token-that-opens"

SSN = ColumnRef("public", "people", "ssn")
BORN = ColumnRef("public", "people", "born")
HELD = ColumnRef("public", "people", "held")  # writes of texts that say "held" need approval


def direct_dsn() -> str:
    return make_conninfo(os.environ[SUPERUSER_DSN], dbname=DATABASE)


def make_database() -> None:
    """Make this process's database, unless another package of the same run already did."""
    with psycopg.connect(os.environ[SUPERUSER_DSN], autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def drop_database() -> None:
    with psycopg.connect(os.environ[SUPERUSER_DSN], autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))


def make_people(schema: str = "public") -> None:
    with psycopg.connect(direct_dsn(), autocommit=True) as connection:
        connection.execute(f"drop table if exists {schema}.people cascade")
        connection.execute(
            f"create table {schema}.people (id int primary key, name text, ssn text, born date, score numeric)"
        )
        connection.execute(
            f"insert into {schema}.people select n, 'name ' || n, '078-05-' || lpad(n::text, 4, '0'), "
            f"date '1950-03-07' + n, n / 3.0 from generate_series(1, 1000) n"
        )


def _outputs(text: str) -> tuple[Output, ...] | None:
    """Columns named in the select list; `ssn` and `born` have origins, everything else has none."""
    known = {"ssn": SSN, "born": BORN}
    match = re.search(r"(?is)(?:select|returning)\s+(.*?)(?:\s+from\b|$)", text)
    if match is None:
        return None
    outputs = []
    for item in match[1].split(","):
        name = item.strip().split(" as ")[-1].strip()
        source = item.strip().split(" as ")[0].strip()
        origins = (Origin(known[source], Transform.IDENTITY),) if source in known else ()
        outputs.append(Output(name, origins))
    return tuple(outputs)


@dataclass
class Recalled:
    """Asks every time."""

    holds: Callable[[], bool]
    shape: str = ""


class TableAnalyst:
    """Reads just enough of a text to know its kind and its protected columns."""

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, tuple[int, ...], str, str], Analysis] = {}

    async def analyse(self, session: SessionContext, statement: Statement) -> Analysis:
        found = self._read(session, statement)
        if found.inner is None:  # what names stand for is not remembered
            key = (statement.text, statement.parameter_types, session.role, session.search_path)
            return self._remembered.setdefault(key, found)
        return found

    async def expect(self, session: SessionContext, analysis: Analysis) -> RowsExpected:
        return UNKNOWN

    async def prepared(self, session: SessionContext, identifier: str) -> int | None:
        return None

    def recall(self, session: SessionContext, text: str, parameter_types: tuple[int, ...]) -> Analysis | None:
        return self._remembered.get((text, parameter_types, session.role, session.search_path))

    def recollect(
        self, session: SessionContext, text: str, parameter_types: tuple[int, ...], found: Analysis
    ) -> Recollection | None:
        return Recalled(lambda: self.recall(session, text, parameter_types) is found)

    def _read(self, session: SessionContext, statement: Statement) -> Analysis:
        text = statement.text.strip()
        word = text.split(None, 1)[0].upper() if text else ""
        base = Analysis(statement=statement, kind=word, fingerprint=text, complete=True)
        if word in {"PREPARE", "DECLARE"}:
            match = re.match(r"(?is)\w+\s+(\w+).*?\b(?:as|for)\s+(.*)", text)
            assert match is not None
            inner = self._read(session, Statement(match[2]))
            return replace(inner, statement=statement, kind=word, name=match[1], inner=inner, outputs=None)
        if word in {"FETCH", "EXECUTE"}:
            name = re.findall(r"\w+", text.split("(")[0])[-1]
            stored = (session.cursors if word == "FETCH" else session.prepared).get(name)
            if stored is None:
                return replace(base, complete=False, problems=("unknown name",))
            return replace(stored, statement=statement, kind=word, name=name, inner=stored)
        if word in {"DEALLOCATE", "CLOSE"}:
            return replace(base, name=text.split()[-1], operations=frozenset({Operation.SESSION}))
        operation = {"INSERT": Operation.WRITE, "UPDATE": Operation.WRITE, "DELETE": Operation.WRITE}.get(
            word, Operation.READ if word in {"SELECT", "COPY", "VALUES", "WITH", "TABLE"} else Operation.SESSION
        )
        if word in {"CREATE", "DROP", "DO", "ALTER"}:
            operation = Operation.DDL
        reads = frozenset(c for c in (SSN, BORN) if re.search(rf"\b{c.column}\b", text))
        copy = None
        if word == "COPY":
            form = "csv" if "csv" in text.lower() else "binary" if "binary" in text.lower() else "text"
            copy = CopyFormat(form, *((",", "") if form == "csv" else ("\t", "\\N")))
            if null := re.search(r"(?i)\bnull '([^']*)'", text):
                copy = replace(copy, null=null[1])
        functions = frozenset({"set_config"}) if "set_config" in text else frozenset()
        outputs = _outputs(text) if word in {"SELECT", "COPY", "INSERT", "UPDATE", "DELETE"} else None
        if word == "COPY" and "stdin" in text.lower():
            outputs = None
        return replace(
            base,
            operations=frozenset({operation, Operation.WRITE} if "held" in text else {operation}),
            reads=reads,
            outputs=outputs,
            copy=copy,
            functions=functions,
            opaque_functions=frozenset({"public.opaque"}) if "opaque" in text else frozenset(),
            writes=frozenset({HELD}) if "held" in text else frozenset(),
        )


@dataclass
class MemoryRecord:
    entries: list[Entry] = field(default_factory=list)
    broken: bool = False
    holding: list[Callable[[], None]] | None = None  # then `append_soon` is answered when a test calls these

    async def append(self, entry: Entry) -> Receipt:
        if self.broken:
            raise OSError("no disk")
        await asyncio.sleep(0)
        self.entries.append(entry)
        return Receipt(len(self.entries), "os")

    def append_now(self, entry: Entry) -> Receipt | None:
        if self.broken:
            raise OSError("no disk")
        self.entries.append(entry)
        return Receipt(None, "os")

    def append_like(self, template: Template, filling: Filling, whole: Whole) -> Receipt | None:
        return None  # every entry is kept whole here

    def append_soon(self, template: Template, filling: Filling, whole: Whole, answer: Answer) -> None:
        entry = whole()

        def answered() -> None:
            if self.broken:
                answer(OSError("no disk"))
                return
            self.entries.append(entry)
            answer(Receipt(len(self.entries), entry.durability))

        if self.holding is None:
            asyncio.get_running_loop().call_soon(answered)
        else:
            self.holding.append(answered)

    def append_like_later(self, template: Template, filling: Filling, whole: Whole) -> bool:
        return False

    def append_later(self, entry: Entry) -> None:
        self.entries.append(entry)

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]


@dataclass
class Reviewers:
    """Holds until a test approves; `modified` is the text the reviewer put in its place, which means `meaning`."""

    approved: asyncio.Event = field(default_factory=asyncio.Event)
    modified: str | None = None
    meaning: str = ""
    opened: list[Binding] = field(default_factory=list)
    withdrawn: int = 0
    revoked: bool = False

    async def confirm(self, claim: GrantClaim, statement_id: str) -> bool:
        return True

    async def stands(self, claim: GrantClaim) -> bool:
        return not self.revoked

    async def release(self, claim: GrantClaim, statement_id: str) -> None: ...

    def used(self, claim: GrantClaim, statement_id: str, rows: int | None) -> None: ...

    def keep_inputs(self, request: AccessRequest, snapshot_version: int) -> str:
        return ""

    async def claim(self, binding: Binding, statement_id: str, **_: object) -> GrantClaim | None:
        if not self.approved.is_set():
            return None
        self.approved.clear()
        text = self.modified or binding.statement
        return GrantClaim("g1", "r1", ("reviewer",), "looks right", text, self.modified, self.meaning)

    async def open(self, *, binding: Binding, statement_id: str, **_: object) -> PendingReview:
        self.opened.append(binding)
        return PendingReview("r1", "http://console/reviews/r1", time.time() + 60, "held", "held", statement_id)

    async def wait(self, review: PendingReview, gone: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(e.wait()) for e in (self.approved, gone)]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if waits[0] not in done:
            self.withdrawn += 1
            raise ReviewRefused(code="review-withdrawn", reason="the request was withdrawn")


SMALL_RECORDING = 1_024  # bytes


@dataclass
class MemoryRecording:
    data: bytearray = field(default_factory=bytearray)
    behind: bool = False

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> str:
        await asyncio.sleep(0)
        return self.digest

    def close_at_once(self) -> str | None:
        return self.digest if len(self.data) < SMALL_RECORDING else None

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest() if self.data else ""

    async def abort(self) -> None: ...


@dataclass
class MemorySink:
    by_statement: dict[str, MemoryRecording] = field(default_factory=dict)
    has_room: bool = True
    crowded: bool = False
    healthy: bool = True

    async def room(self) -> None:
        while self.crowded:
            await asyncio.sleep(0.01)

    def when_stored(self, told: Callable[[], None]) -> None:
        told()

    def keep(self, session_id: str, statement_id: str, format: str, plaintext: bytes) -> str:
        recording = self.open(session_id=session_id, statement_id=statement_id, format=format)
        recording.write(plaintext)
        return recording.digest

    def open(self, *, session_id: str, statement_id: str, format: str) -> MemoryRecording:
        assert format == "pgwire"
        return self.by_statement.setdefault(statement_id, MemoryRecording())


class TokenDoor:
    expires_in: float | None = None

    async def authenticate(
        self, *, user: str, secret: str, connection: str, client_address: str, tls: str
    ) -> Principal:
        if secret != TOKEN:
            raise AuthenticationFailed("unknown token")
        expires = None if self.expires_in is None else time.time() + self.expires_in
        return Principal(user, "https://issuer", frozenset({"ai-agents"}), expires_at=expires)


@dataclass
class Gateway:
    """A listener over the real database; `phi` switches scrubbing, `rules` masking."""

    phi: bool = True
    masking: bool = True
    limits: Limits | None = None
    record: MemoryRecord = field(default_factory=MemoryRecord)
    reviewers: Reviewers = field(default_factory=Reviewers)
    sink: MemorySink = field(default_factory=MemorySink)
    door: TokenDoor = field(default_factory=TokenDoor)
    registry: SessionRegistry = field(default_factory=SessionRegistry)
    upstream_port: int = PORT
    ssl_context: ssl.SSLContext | None = None
    analyst: Analyst = field(default_factory=TableAnalyst)
    others: dict[str, int] = field(default_factory=dict)  # further connections of the same rules: name → port
    held_column: str = "public.people.held"
    recording: str = "masked-results"
    durability: str = "database"
    prepared: PreparedTransactions | None = None

    def snapshot(self) -> Snapshot:
        ports = {"people": self.upstream_port, **self.others}
        names = tuple(ports)
        every = frozenset({Operation.READ, Operation.WRITE, Operation.DDL, Operation.SESSION})
        rules = (
            MaskingRule("ssn", names, ("public.people.ssn",), Technique.REDACT, Inference.OPEN),
            MaskingRule("born", names, ("public.people.born",), Technique.YEAR, Inference.OPEN),
        )
        return Snapshot(
            version=1,
            loaded_at=time.monotonic(),
            connections=MappingProxyType({name: self._spec(name, port) for name, port in ports.items()}),
            access_rules=(AccessRule(frozenset({"ai-agents"}), names, every, "agents"),),
            policies=(
                PolicyRule("no-ddl", names, Action.DENY, Condition(operation=frozenset({Operation.DDL}))),
                PolicyRule(
                    "held",
                    names,
                    Action.REQUIRE_APPROVAL,
                    Condition(operation=frozenset({Operation.WRITE}), columns=(self.held_column,)),
                    reviewers=(ReviewerGroup("privacy-officers"),),
                ),
            ),
            masking_rules=rules if self.masking else (),
            agents=MappingProxyType({}),
            people=MappingProxyType({}),
        )

    def _spec(self, name: str, port: int) -> ConnectionSpec:
        return ConnectionSpec(
            name=name,
            kind="postgres",
            host=HOST,
            port=port,
            database=DATABASE,
            username=USER,
            tls="disable",
            phi=self.phi,
            scan_text=False,
            recording=self.recording,
            durability=self.durability,
        )

    async def start(self) -> Gateway:
        self.rules = self.snapshot()
        gateway = self

        class Rules:
            def current(self) -> Snapshot:
                return gateway.rules

        services = Services(
            snapshots=Rules(),
            analysts={"postgres": self.analyst},
            reviews=self.reviewers,
            record=self.record,
            prepared=self.prepared,
            results=self.sink,
        )

        async def credential(spec: ConnectionSpec) -> dict[str, str]:
            return {"username": USER, "password": PASSWORD}

        self.services = services
        self.listener = PostgresListener(
            services=services,
            authenticator=self.door,
            registry=self.registry,
            upstream_credential=credential,
            recordings=self.sink,
            port=0,
            limits=self.limits,
            ssl_context=self.ssl_context,
        )
        await self.listener.start()
        return self

    async def stop(self) -> None:
        await self.listener.close()

    def dsn(self, **more: str) -> str:
        words = {
            "host": HOST,
            "port": str(self.listener.port),
            "user": "demo-agent",
            "password": TOKEN,
            "dbname": "people",
            "sslmode": "prefer",
            "connect_timeout": "10",
            **more,
        }
        return " ".join(f"{key}='{value}'" for key, value in words.items())
