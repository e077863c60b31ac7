"""Random sessions: what a name stands for changes midway, in simple queries and in pipelines, by every way there is.

A session is a list of requests, a request a list of statements that leave in one Query or before one Sync. Names are
few, so that they are made, shadowed, dropped, undone and used again; much fails, and the session goes on. One seed is
one session. Nothing is written to tables that were there before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bypass.canary import IDENTIFIERS
from tests.bypass.grammar import Grammar, Scope
from tests.bypass.wire import SYNC, bind, describe_portal, execute, message, parse

MADE = "attack_random_"  # what definitions make; dropped by whoever runs them
TEMPORARY = ("k", "loot", "patients", "encounters", "claims")
KEPT = (MADE + "a", MADE + "b")
PREPARED, CURSORS, SAVEPOINTS = ("p", "q"), ("c", "d"), ("s", "t")
CHANNEL = "attack"


@dataclass(frozen=True)
class Request:
    """Statements that are sent at once. `named`: by the extended protocol, as statements and portals with a name."""

    statements: tuple[str, ...]
    simple: bool
    binary: bool = False
    named: bool = False

    def encoded(self) -> bytes:
        if self.simple:
            return message(b"Q", "; ".join(self.statements).encode() + b"\0")
        return b"".join(self._piped(number, text) for number, text in enumerate(self.statements)) + SYNC

    def _piped(self, number: int, text: str) -> bytes:
        name = f"n{number % 2}" if self.named else ""
        closed = message(b"C", b"S" + name.encode() + b"\0") if self.named else b""
        bound = bind(statement=name, portal=name, binary=self.binary)
        return closed + parse(text, name=name) + bound + describe_portal(name) + execute(name)


class SessionGrammar(Grammar):
    """`statement` is one step of a session here, not a query alone."""

    def session(self) -> list[Request]:
        requests = [Request((f"LISTEN {CHANNEL}",), simple=True)]
        for _ in range(self.random.randint(3, 7)):
            statements = tuple(self.step() for _ in range(self.random.choice([1, 1, 2, 3, 5])))
            simple = self.random.random() < 0.5
            binary, named = self.random.random() < 0.3, self.random.random() < 0.3
            requests.append(Request(statements, simple=simple, binary=binary, named=named and not simple))
        return [*requests, Request(("SELECT 1",), simple=True)]  # what was notified comes with it

    def step(self) -> str:
        steps: list[tuple[int, Callable[[], str]]] = [
            (5, self.read),
            (5, self.read_made),
            (5, self.temporary),
            (3, self.fill),
            (2, self.alter),
            (3, self.define),
            (3, self.prepared),
            (3, self.cursor),
            (4, self.control),
            (2, self.notify),
            (2, self.setting),
            (1, self.fail),
        ]
        (chosen,) = self.random.choices([maker for _, maker in steps], [weight for weight, _ in steps])
        # A guess that is right would be found in the gateway's words about the statement, which repeat it.
        return chosen().replace(str(IDENTIFIERS["national_id"]), "1836311902")

    # --- queries ---

    def any_query(self) -> str:
        return self.random.choice([self.query, self.query, self.union, self.with_query, self.rows_from])(2)

    def read(self) -> str:
        form = self.random.choice(["{}", "{}", "{}", "COPY ({}) TO STDOUT", "EXPLAIN ANALYZE {}", "TABLE k"])
        return form.format(self.any_query())

    def made_source(self) -> str:
        return self.random.choice([*TEMPORARY, *TEMPORARY, *KEPT, "pg_temp.k", "public.patients", "v"])

    def read_made(self) -> str:
        source = self.made_source()
        scope = Scope(["m.a::text", "m.b::text", "m.ssn::text", "m::text", "a", "m.kind::text"], ["m"])
        where = self.random.choice(["", *[" WHERE m.id = 900001"] * 4, " LIMIT 3"])
        query = f"SELECT {self.scalar(scope, 2)} AS x FROM {source} m{where}"
        return self.random.choice([query, query, f"SELECT * FROM {source} m{where}", f"COPY ({query}) TO STDOUT"])

    def columns(self) -> str:
        """A query whose columns have the names that `read_made` asks for."""
        scope, source = self.source(1)
        a, b = self.scalar(scope, 1), self.scalar(scope, 1)
        names = self.random.choice([("a", "b"), ("ssn", "kind"), ("kind", "a"), ("a", "ssn")])
        return f"SELECT 900001 AS id, {a} AS {names[0]}, {b} AS {names[1]} FROM {source}{self.where(scope, 0)}"

    # --- what names stand for ---

    def temporary(self) -> str:
        name, query = self.random.choice(TEMPORARY), self.columns()
        return self.random.choice(
            [
                f"CREATE TEMP TABLE {name} AS {query}",
                f"CREATE TEMP TABLE IF NOT EXISTS {name} AS {query}",
                f"CREATE TEMP TABLE {name} ON COMMIT DROP AS {query}",
                f"CREATE TEMP TABLE {name} (id int, a text, b text, ssn text, kind text)",
                f"CREATE TEMP TABLE {name} AS SELECT 900001 AS id, 'harmless'::text AS a, 'harmless'::text AS ssn",
                f"CREATE OR REPLACE TEMP VIEW v AS {query}",
                f"CREATE TEMP VIEW {name} AS {query}",
                query.replace(" FROM ", f" INTO TEMP {name} FROM ", 1),
            ]
        )

    def fill(self) -> str:
        name = self.random.choice(TEMPORARY)
        target = self.random.choice([name, f"pg_temp.{name}"]) if name in {"k", "loot"} else f"pg_temp.{name}"
        return self.random.choice(
            [
                f"INSERT INTO {target} (id, a) SELECT id, a FROM ({self.columns()}) f",
                f"INSERT INTO {target} (id, a) SELECT 900001, v FROM ({self.one_column(1)}) f RETURNING a",
                f"UPDATE {target} SET a = b RETURNING *",
                f"UPDATE {target} SET a = ({self.one_column(1)} LIMIT 1)",
                f"WITH w AS (UPDATE {target} SET a = reverse(a) RETURNING a) SELECT * FROM w",
                f"DELETE FROM {target} RETURNING *",
            ]
        )

    def alter(self) -> str:
        name = self.random.choice(TEMPORARY)
        return self.random.choice(
            [
                f"DROP TABLE IF EXISTS pg_temp.{name}",
                f"DROP VIEW IF EXISTS pg_temp.{name}",
                f"ALTER TABLE pg_temp.{name} RENAME COLUMN a TO zz",
                f"ALTER TABLE pg_temp.{name} RENAME TO {self.random.choice(TEMPORARY)}",
                "DISCARD TEMP",
                "DISCARD ALL",
                "DISCARD PLANS",
            ]
        )

    def define(self) -> str:
        name, query = self.random.choice(KEPT), self.columns()
        plain = f"SELECT id, kind AS a, status AS b FROM encounters WHERE id = {900001}"
        query = self.random.choice([query, plain, plain])
        return self.random.choice(
            [
                f"CREATE VIEW {name} AS {query}",
                f"CREATE TABLE {name} AS {query}",
                f"CREATE MATERIALIZED VIEW {name} AS {query}",
                f"CREATE OR REPLACE VIEW {name} AS {query}",
                query.replace(" FROM ", f" INTO {name} FROM ", 1),
                f"DROP VIEW IF EXISTS {name}",
                f"DROP TABLE IF EXISTS {name}",
            ]
        )

    # --- what is kept ---

    def prepared(self) -> str:
        name = self.random.choice(PREPARED)
        source = self.random.choice([self.any_query(), self.read_made().removeprefix("COPY (").split(") TO")[0]])
        return self.random.choice(
            [f"PREPARE {name} AS {source}"] * 2
            + [f"EXECUTE {name}"] * 3
            + [f"EXPLAIN ANALYZE EXECUTE {name}", f"CREATE TEMP TABLE k AS EXECUTE {name}", f"DEALLOCATE {name}"]
        )

    def cursor(self) -> str:
        name, query = (
            self.random.choice(CURSORS),
            self.random.choice([self.any_query(), f"SELECT * FROM {self.made_source()}"]),
        )
        kind = self.random.choice(["", "SCROLL ", "NO SCROLL "])
        hold = self.random.choice(["", "", "WITH HOLD "])
        return self.random.choice(
            [f"DECLARE {name} {kind}CURSOR {hold}FOR {query}"] * 2
            + [f"FETCH ALL FROM {name}", f"FETCH 2 {name}", f"FETCH FIRST FROM {name}"]
            + [f"MOVE 1 {name}", f"CLOSE {name}"]
        )

    def control(self) -> str:
        name = self.random.choice(SAVEPOINTS)
        begins = ("BEGIN", "BEGIN", f"SAVEPOINT {name}", f"SAVEPOINT {name}")
        ends = ("COMMIT", "ROLLBACK", f"ROLLBACK TO {name}", f"RELEASE {name}")
        return self.random.choice([*begins, *ends, "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"])

    def notify(self) -> str:
        scope, source = self.source(1)
        value = self.scalar(scope, 1)
        return self.random.choice(
            [
                f"SELECT count(pg_notify('{CHANNEL}', {value})) FROM {source}{self.where(scope, 0)}",
                f"SELECT pg_notify('{CHANNEL}', m.a::text) FROM {self.made_source()} m",
                f"NOTIFY {CHANNEL}, 'said'",
                f"LISTEN {CHANNEL}",
            ]
        )

    def setting(self) -> str:
        return self.random.choice(
            [
                "SET search_path TO public",
                "SET search_path TO attack_shadow, public",
                "SET LOCAL search_path TO public, pg_temp",
                "SET search_path TO pg_temp, public",
                "SELECT set_config('search_path', 'attack_shadow, public', false)",
                "RESET search_path",
                "SET plan_cache_mode TO force_generic_plan",
            ]
        )

    def fail(self) -> str:
        return self.random.choice(["SELECT 1/0", "SELECT nothing", "SELECT"])


def session(seed: int) -> list[Request]:
    return SessionGrammar(seed).session()
