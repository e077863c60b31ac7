"""The stages of a statement's analysis, measured one by one. See `benchmarks.miss`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from analysis.agree import agree
from analysis.fingerprint import shape_of, skeleton_of
from analysis.lexer import _tokens, tokenize
from analysis.lineage import read_lineage
from analysis.nodes import read_tree
from analysis.parse import read_client
from analysis.split import split_statements
from analysis.statement import Statement
from analysis.utility import read_utility
from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.context import SessionContext
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from gateway.upstreams.postgres_side import PostgresSide
from gateway.upstreams.postgres_witness import Question

# `{n}` makes a shape of its own: a result column's name is part of what is masked, so it is part of the key. As a name
# it is all that differs in what the database reads (`analysis.alike`), as a number it makes a reading of its own.
STATEMENTS = {
    "point select, read unlike any": "SELECT abalance + {n} AS c FROM pgbench_accounts WHERE aid = 7",
    "five tables, read unlike any": "SELECT a.abalance + {n} AS c, b.bbalance, t.tbalance, h.delta, w.name "
    "FROM pgbench_accounts a JOIN pgbench_branches b USING (bid) JOIN pgbench_tellers t USING (bid) "
    "JOIN pgbench_history h ON h.aid = a.aid JOIN wide w ON w.id = a.aid WHERE a.aid = 7",
    "point select": "SELECT abalance AS c{n} FROM pgbench_accounts WHERE aid = 7",
    "point select, $1": "SELECT abalance AS c{n} FROM pgbench_accounts WHERE aid = $1",
    "five tables": "SELECT a.abalance AS c{n}, b.bbalance, t.tbalance, h.delta, w.name FROM pgbench_accounts a "
    "JOIN pgbench_branches b USING (bid) JOIN pgbench_tellers t USING (bid) JOIN pgbench_history h ON h.aid = a.aid "
    "JOIN wide w ON w.id = a.aid WHERE a.aid = 7",
    "CTE and window": "WITH latest AS (SELECT aid, delta, row_number() OVER (PARTITION BY aid ORDER BY mtime DESC) AS "
    "place FROM pgbench_history) SELECT a.aid AS c{n}, a.abalance, l.delta FROM pgbench_accounts a "
    "JOIN latest l ON l.aid = a.aid WHERE l.place = 1 ORDER BY a.aid LIMIT 20",
    "INSERT … SELECT": "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) SELECT t.tid, t.bid, a.aid, "
    "{n}, now() FROM pgbench_tellers t JOIN pgbench_accounts a USING (bid) WHERE a.aid = 7",
}


@dataclass(frozen=True)
class Taken:
    """Milliseconds a time, of processor and clock."""

    cpu: list[float]
    elapsed: list[float]

    def __str__(self) -> str:
        return (
            f"{min(self.cpu):8.3f} {statistics.median(self.cpu):8.3f}"
            f" {min(self.elapsed):8.3f} {statistics.median(self.elapsed):8.3f}"
        )


async def measure(dsn: str, shapes: int) -> None:
    async def dsn_for(_: ConnectionSpec) -> str:
        return dsn

    spec = ConnectionSpec(name="bench", kind="postgres", phi=False, scan_text=False)
    analyst = PostgresAnalyst(dsn_for)
    session = SessionContext(Principal("agent", "https://issuer", frozenset({"agents"})), spec, "postgres")
    await analyst.analyse(session, Statement("SELECT abalance FROM pgbench_accounts"))
    side = analyst._side(spec)
    print(f"{'milliseconds a statement':34} cpu best   median  elapsed   median")
    for number, (name, form) in enumerate(STATEMENTS.items()):
        texts = [form.format(n=number * 10_000 + n) for n in range(shapes + 10)]
        await _check(analyst, session, texts[0])

        async def whole(text: str) -> None:
            await analyst.analyse(session, Statement(text))

        taken = await _timed(whole, texts[1:])
        for stage, apart in (await _stages(side, texts)).items():
            print(f"  {stage:30} {apart}")
        print(f"{name:32} {taken}", flush=True)
    await analyst.close()


async def _check(analyst: PostgresAnalyst, session: SessionContext, text: str) -> None:
    found = await analyst.analyse(session, Statement(text))
    if not found.complete:
        raise SystemExit(f"not read: {text}: {found.problems}")


async def _stages(side: PostgresSide, texts: list[str]) -> dict[str, Taken]:
    text = texts[0]
    tokens = tokenize(text)
    shape, utility, client = shape_of(tokens), read_utility(text), read_client(text, tokens)
    question = Question(text, parameter_count=text.count("$"))
    witness = await side.read(question)

    async def ask(each: str) -> None:
        await side.read(Question(each, parameter_count=each.count("$")))

    async def plan(_: str) -> None:
        await side.plan(question)

    parts: dict[str, Callable[[str], object]] = {
        "split": split_statements,
        "tokenise (once a text)": lambda each: _tokens(each, True),
        "both keys": lambda _: (shape_of(tokens), skeleton_of(text, tokens)),
        "what kind it is": read_utility,
        "first reading (sqlglot)": lambda _: read_client(text, tokens),
        "second reading: its tree": lambda _: read_tree(witness.tree),
        "second reading: lineage": lambda _: read_lineage(witness.tree, witness.catalogue),
        "comparison, facts (all above)": lambda _: agree(
            statement=Statement(text), utility=utility, client=client, witness=witness, shape=shape
        ),
    }
    taken = {name: await _timed(_awaitable(part), texts) for name, part in parts.items()}
    taken["the database's reading"] = await _timed(ask, texts)
    taken["its estimate, where asked"] = await _timed(plan, texts)
    return taken


def _awaitable(part: Callable[[str], object]) -> Callable[[str], Awaitable[None]]:
    async def called(text: str) -> None:
        part(text)

    return called


async def _timed(call: Callable[[str], Awaitable[None]], texts: list[str]) -> Taken:
    taken = Taken([], [])
    for text in texts:
        began, clock = time.process_time(), time.perf_counter()
        await call(text)
        taken.cpu.append((time.process_time() - began) * 1000)
        taken.elapsed.append((time.perf_counter() - clock) * 1000)
    return taken
