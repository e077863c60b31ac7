"""Random conversations for the express lane: what it serves, over and over, and whatever may come between.

One seed is one conversation, so that a failure can be replayed: `conversation(seed)`. Every answer in it is certain:
rows are ordered, nothing asks for the time, and what another session does it does while this one waits.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

from gateway.protocols.postgres import client
from gateway.protocols.postgres.client import Parse
from tests.gateway.listeners.raw import FLUSH, SYNC, bind, close, describe, execute, query

INT4, INT8 = 23, 20
OTHER_SCHEMA, OTHER_ROLE = "lane_other", f"lane_reader_{os.getpid()}"  # roles are all databases'

# `counted` returns how often it was called: what runs twice, or not at all, shows in every later answer.
MADE = (
    f"create schema {OTHER_SCHEMA}",
    "create table lane (found int primary key, half smallint, label text, day date) with (autovacuum_enabled = false)",
    f"create table {OTHER_SCHEMA}.lane as select 100 as found, 1::smallint as half, 'b' as label, now()::date as day",
    "create sequence lane_calls",
    "create function counted(int) returns bigint language plpgsql as 'begin return nextval(''lane_calls''); end'",
    "create function fails_at_seven(int) returns int language plpgsql as 'begin return 10 / (7 - $1); end'",
)
FILLED = ("insert into lane select n, n / 2, 'label ' || n, date '1999-12-31' + n from generate_series(1, 9) n",)
GRANTED = (f"grant select on lane, people to {OTHER_ROLE}", f"grant usage on schema {OTHER_SCHEMA} to {OTHER_ROLE}")
# Whether another session holds a lock on any of it.
HELD = (
    "select 1 from pg_locks join pg_database d on d.oid = database join pg_class c on c.oid = relation"
    " where d.datname = current_database() and pid <> pg_backend_pid() and relname in ('lane', 'lane_away', 'people')"
)
DROPPED = (
    f"drop schema if exists {OTHER_SCHEMA} cascade",
    "drop table if exists lane, lane_away",
    "drop function if exists counted(int), fails_at_seven(int), fails_at_seven(bigint)",
    "drop sequence if exists lane_calls",
)

# The same twice over is one expression, two parameters are two.
TWICE = (
    "select found = {0} as same, count(*) from lane group by found = {0} order by same",
    "select distinct found > {0} as more from lane order by found > {0}",
    "select found, found = {0} as same, count(*) from lane group by rollup (found, found = {0}) order by found, same",
    "select count(*) over (partition by found = {0} order by found > {0}) as place from lane order by place",
)
# `{}` is a number each time anew, `{0}` the same one wherever it stands.
PLAIN = (
    "select found from lane where found = {}",
    "select found, label from lane where found <= {} and half>{} order by found",
    "select found, found > {} as more from lane where found <= {} order by found",
    "select found, label from lane where found = {};",
    "select count(*) from lane where found < {}",
    "select max(day) from lane where found <> {}",
    "select counted(found) from lane where found = {}",
    "select found, counted(found) from lane where found <= {} order by found",
    "select fails_at_seven(found) from lane where found = {}",
    "select found from lane where found / (half - half) = {}",
    "select (select max(label) from lane where found < {}) as most",
    "select found from lane where found = {} union select found from lane where found = {} order by found",
    "select case when found = {} then label end as one from lane where half <= {} order by found",
    # Masked.
    "select id, ssn from people where id = {}",
    "select id, name, ssn, born from people where id <= {} order by id",
    "select ssn from people where id = {} and id < {}",
)
QUERIES = (
    *PLAIN,
    *TWICE,
    *TWICE,
    # Texts that have no template.
    "select found from lane order by found limit {}",
    "select found + {} as more from lane order by found",
    "select '{}'::date - day as days from lane where found = {}",
    "select label from lane where found = {} -- and found = {}",
    # What is refused as it is parsed.
    "select nosuch from lane where found = {}",
    "select found from nosuch where found = {}",
    "select nosuch(found) from lane where found = {}",
    "select found from lane where label = {}",
    "select from where found = {}",
)
PARAMETERS = (
    "select found from lane where found = $1",
    "select found, label, day from lane where found <= $1 order by found",
    "select counted(found) from lane where found = $1",
    "select fails_at_seven(found) from lane where found = $1",
    "select nosuch from lane where found = $1",
    "select day, $1 as same from lane where day > '01/02/2000' order by found",
    "select id, ssn, born from people where id = $1",
    "select count(*) from people where id <= $1",
    # Without rows.
    "update lane set half = half where found = $1",
    "delete from lane where found = $1 and half > 2",
    "insert into lane values ($1, 1, 'anew', '2003-02-01') on conflict do nothing",
)
NAMES = ("", "", "a", "b")
# Each with what mostly follows it a little later.
SETTINGS = (
    ("set datestyle to german", "reset datestyle"), ("set datestyle to 'sql, dmy'", "set datestyle to iso"),
    ("set local datestyle to postgres", ""), (f"set search_path to {OTHER_SCHEMA}, public", "reset search_path"),
    (f"set local search_path to {OTHER_SCHEMA}", "set search_path to public"), (f"set role {OTHER_ROLE}", "reset role"),
    (f"set local role {OTHER_ROLE}", "set role none"), ("set enable_seqscan to off", "reset all"),
    ("set plan_cache_mode to force_generic_plan", "discard plans"), ("set extra_float_digits to 0", "discard all"),
)  # fmt: skip
ENDS = ("set standard_conforming_strings to off", "set client_encoding to latin1")
WRITES = (
    "update lane set label = 'changed {}' where found = {}",
    "delete from lane where found = {}",
    "insert into lane values ({}, 1, 'anew', '2003-02-01') on conflict do nothing",
    "create temp table lane (found int, half int, label text, day date)",
    "create temp table mine as select {} as found",
    "drop table if exists pg_temp.lane",
    "notify lane",
)
_FAILS = "create or replace function fails_at_seven(int) returns int language plpgsql as 'begin return {}; end'"
_DROPPED = "drop function fails_at_seven(int)"
BY_OTHERS = (
    ("alter table lane alter found type bigint", "alter table lane alter found type int"),
    ("alter table lane rename to lane_away", "alter table lane_away rename to lane"),
    ("alter table lane rename label to name", "alter table lane rename name to label"),
    ("alter table lane add more int", "alter table lane drop more"),
    ("alter table lane alter half type int", "alter table lane alter half type smallint"),
    ("alter table lane alter day type text", ""), (_DROPPED, _FAILS.format("10 / (7 - $1)")),
    (_FAILS.format("$1"), _FAILS.format("10 / (7 - $1)")),
    *[(f"{_DROPPED}; {_FAILS.format(1).replace('returns int', 'returns bigint')}",
       f"{_DROPPED}; {_FAILS.format('10 / (7 - $1)')}")] * 3,
    ("update lane set label = 'by another' where found = 5", ""), ("delete from lane where found = 3", ""),
    (f"revoke select on lane from {OTHER_ROLE}", f"grant select on lane to {OTHER_ROLE}"),
    ("vacuum lane", ""), ("analyze lane", ""),
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One write of the client's with so many ReadyForQuery in its answer, or something that is done beside it."""

    sent: bytes = b""
    answers: int = 1
    cut_at: int = 0  # in two pieces, and
    turns: int = 0  # of the event loop between them
    by_another: str = ""
    other_rules: bool = False

    def __str__(self) -> str:
        return self.by_another or (repr(self.sent) if self.sent else "other rules")


class Lane:
    """Statements come in runs: only what comes again is served in the lane."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def conversation(self, length: int) -> list[Step]:
        steps: list[Step] = []
        while len(steps) < length:
            steps += self.run()
        return steps

    def run(self) -> list[Step]:
        makers: list[tuple[int, Callable[[], list[Step]]]] = [
            (16, self.queries),
            (8, self.parsed),
            (4, self.prepared),
            (12, self.mixed),
            (10, self.between),
            (8, self.transaction),
            (6, self.rounds),
            (2, lambda: [self.simple(self.filled(self.random.choice(WRITES)))]),
            (4, self.writes),
            (2, self.odd),
            (4, self.pipeline),
            (12, self.batches),
        ]
        (chosen,) = self.random.choices([maker for _, maker in makers], [weight for weight, _ in makers])
        return chosen()

    def times(self) -> range:
        return range(self.random.choice([1, 2, 4, 6, 9]))

    def filled(self, text: str) -> str:
        same = self.number()
        parts = text.replace("{0}", same).split("{}")
        return "".join(part + self.number() for part in parts[:-1]) + parts[-1]

    def number(self) -> str:
        return str(self.random.choice([*range(1, 10)] * 4 + [0, 999_999_999, 1_234_567_890]))

    def step(self, sent: bytes, answers: int = 1) -> Step:
        cut_at = self.random.randrange(1, len(sent)) if self.random.random() < 0.1 else 0
        return Step(sent, answers, cut_at, self.random.randrange(8))

    def simple(self, text: str) -> Step:
        return self.step(query(text))

    # --- what the lane serves ---

    def queries(self) -> list[Step]:
        text = self.random.choice(QUERIES)
        return [self.simple(self.filled(text)) for _ in self.times()]

    def twice(self) -> list[Step]:
        text = self.random.choice(TWICE)
        return [self.simple(self.filled(text)) for _ in range(5)]

    def parsed(self) -> list[Step]:
        ask = self.whole(self.random.choice(PARAMETERS))
        return [self.step(ask(wrong=0.1 if number else 0)) for number in self.times()]

    def whole(self, text: str) -> Callable[..., bytes]:
        """Makes requests of one text, with its Parse, whose values alone differ.

        `wrong`: how many have one that is no number. Not the first behind what another did: a server that has the text
        looks at the value first, and does not say that the text is wrong by now.
        """
        types = self.random.choice([(INT4,), (INT4,), (INT4,), (INT8,)])
        formats: tuple[int, ...] = self.random.choice([(), (), (1,)])
        made = client.encode_parse(Parse("", text, types))
        return lambda wrong=0.0: made + self.bound("", formats, wrong=wrong) + SYNC

    def bound(self, name: str, formats: tuple[int, ...] = (), *, wrong: float = 0.1) -> bytes:
        value = "x" if self.random.random() < wrong else self.number()
        return bind(name, formats=formats, values=(value.encode(),)) + describe() + execute()

    def prepared(self) -> list[Step]:
        name = self.random.choice(NAMES)
        made = client.encode_parse(Parse(name, self.random.choice(PARAMETERS), (INT4,)))
        dropped = close("S", name) if name else b""
        return [self.step(dropped + made + SYNC), *(self.step(self.bound(name) + SYNC) for _ in self.times())]

    def mixed(self) -> list[Step]:
        """A few that alternate, and what is left of them: the unnamed statement is whose Parse was last."""
        one, other = (self.random.choice(self.random.choice([PLAIN, QUERIES])) for _ in range(2))
        parameters = self.random.choice(PARAMETERS)
        whole = self.whole(parameters)
        asks: dict[str, Callable[[], Step]] = {
            "one": lambda: self.simple(self.filled(one)),
            "other": lambda: self.simple(self.filled(other)),
            "whole": lambda: self.step(whole()),
            "parsed": lambda: self.step(client.encode_parse(Parse("", parameters, (INT4,))) + SYNC),
            "bound": lambda: self.step(self.bound("") + SYNC),
            "described": lambda: self.step(describe("S", "") + SYNC),
            "executed": lambda: self.step(execute() + SYNC),
        }
        among = (
            "one other",
            "one whole",
            "whole bound",
            "whole one bound",
            "whole one described",
            "whole executed",
            "one parsed",
            "one parsed bound",
        )
        names = [*self.random.choice(among).split(), *self.random.sample(list(asks), self.random.choice([0, 0, 1]))]
        return [asks[name]() for _ in self.times() for name in names]

    # --- what comes between ---

    def between(self) -> list[Step]:
        """The same before and after something that another does, or that is set."""
        changes = self.change()
        fitting = "fails_at_seven" if "fails_at_seven" in changes[0].by_another else ""
        text = self.random.choice([text for text in QUERIES if fitting in text])
        whole = self.whole(self.random.choice([text for text in PARAMETERS if fitting in text]))
        name = self.random.choice(NAMES)
        made = self.kept(name, self.random.choice([text for text in PARAMETERS if fitting in text]))
        asks = [
            lambda: self.simple(self.filled(text)),
            lambda: self.step(whole()),
            lambda: self.step(self.batch(name)),
        ]
        ask = self.random.choice(asks)
        steps = [self.step(made), *(ask() for _ in self.times())]
        for step in changes:
            steps += [step, *(ask() for _ in self.times())]
        return steps

    def change(self) -> list[Step]:
        """Something that changes what the same text means or shows, and mostly what takes it back."""
        kind = self.random.randrange(8)
        if kind == 0:
            changes = [Step(other_rules=True)] * 2
        elif kind < 4:
            changes = [self.simple(text) for text in self.random.choice(SETTINGS) if text]
        else:
            changes = [Step(by_another=text) for text in self.random.choice(BY_OTHERS) if text]
        return changes if self.random.random() < 0.8 else changes[:1]

    def transaction(self) -> list[Step]:
        inside: list[Step] = []
        for _ in range(self.random.choice([0, 1, 1, 2, 4])):
            makers = [self.queries, self.twice, self.parsed, self.mixed, self.mixed, self.between, self.odd]
            inside += self.random.choice([*makers, self.batches])()
        ends = [] if self.random.random() < 0.1 else [self.simple(self.random.choice(["commit", "commit", "rollback"]))]
        return [self.simple(self.random.choice(["begin", "begin", "begin read only"])), *inside, *ends]

    def rounds(self) -> list[Step]:
        """Short transactions, as drivers make them of one statement after another."""
        begin, end = (self.word(self.random.choice(words)) for words in (("begin", "BEGIN;"), ("commit", "rollback")))
        text, whole = self.random.choice(PLAIN), self.whole(self.random.choice(PARAMETERS))
        asks = [lambda: self.simple(self.filled(text)), lambda: self.step(whole())]
        steps = []
        for _ in self.times():
            inside = [ask() for ask in self.random.choices(asks, k=self.random.choice([0, 1, 1, 2]))]
            steps += [begin(), *inside, end()]
        return steps

    def word(self, text: str) -> Callable[[], Step]:
        """Asked for as different drivers do."""
        made = client.encode_parse(Parse("", text, ()))
        described = self.random.choice([b"", describe()])
        whole = made + bind() + described + execute() + SYNC
        return self.random.choice([lambda: self.simple(text), lambda: self.step(whole)])

    def writes(self) -> list[Step]:
        text = self.random.choice(WRITES[:3])
        return [self.simple(self.filled(text)) for _ in self.times()]

    def odd(self) -> list[Step]:
        """What only some clients send, or by mistake."""
        text = self.random.choice(PARAMETERS)
        return [
            self.step(
                self.random.choice(
                    [
                        self.bound(self.random.choice(NAMES)) + SYNC,
                        bind(values=(b"1", b"2")) + execute() + SYNC,
                        describe("S", self.random.choice(NAMES)) + SYNC,
                        execute() + SYNC,
                        client.encode_parse(Parse("", text, (INT4,))) + SYNC,
                        client.encode_parse(Parse("", text, ())) + bind() + SYNC,
                        bind(values=(b"7",)) + describe() + execute(rows=1) + execute() + SYNC,
                        close("S", self.random.choice(NAMES)) + SYNC,
                        close("P", "") + SYNC,
                        query(self.filled("select 1 / 0; select found from lane where found = {}")),
                        query(self.filled("select found from lane where found = {}; select {} as one")),
                        query(self.random.choice(["", "savepoint s", "rollback to s", "set local datestyle to iso"])),
                        SYNC,
                        query(self.random.choice(ENDS)) if self.random.random() < 0.1 else query("syntax error"),
                    ]
                )
            )
        ]

    def pipeline(self) -> list[Step]:
        """Several at once, with one Sync or one each, or the second while the first is under way."""
        texts = [self.random.choice(PLAIN) for _ in range(self.random.choice([2, 3, 5]))]
        kind = self.random.randrange(6)
        if kind >= 4:
            return self.behind()
        if kind == 0:
            return [self.step(b"".join(query(self.filled(text)) for text in texts), len(texts))]
        if kind == 1:
            return [self.step(b"".join(query(self.filled(texts[0])) for _ in texts), len(texts))]
        wholes = [self.whole(self.random.choice(PARAMETERS))() for _ in texts]
        if kind == 2:
            return [self.step(b"".join(wholes), len(wholes))]
        return [self.step(b"".join(whole.removesuffix(SYNC) for whole in wholes) + SYNC)]

    def kept(self, name: str, text: str) -> bytes:
        return (close("S", name) if name else b"") + client.encode_parse(Parse(name, text, (INT4,))) + SYNC

    def batches(self) -> list[Step]:
        """Executions one behind the other, as drivers send a statement with many values."""
        name = self.random.choice(NAMES)
        made = self.kept(name, self.random.choice(PARAMETERS))
        batches = [self.batch(name) for _ in range(self.random.choice([1, 2, 4]))]
        if self.random.random() < 0.3:  # at once with its Parse
            return [self.step(made.removesuffix(SYNC) + batches[0]), *map(self.step, batches[1:])]
        return [self.step(made), *map(self.step, batches)]

    def batch(self, name: str) -> bytes:
        described = self.random.choice([b"", describe(), describe()])
        asked = []
        for _ in range(self.random.choice([1, 2, 5, 12, 40])):
            value = "x" if self.random.random() < 0.01 else self.number()
            formats = self.random.choice([(), (), (), (1,)])
            most = self.random.choice([0, 0, 0, 0, 1, 2])
            asked.append(bind(name, formats=formats, values=(value.encode(),)) + described + execute(rows=most))
        for _ in range(self.random.choice([0, 0, 0, 1, 2])):
            asked.insert(self.random.randrange(len(asked) + 1), self.between_executions())
        return b"".join(asked) + SYNC

    def between_executions(self) -> bytes:
        other = self.random.choice(NAMES)
        word = self.random.choice(["begin", "commit", "rollback", "set local datestyle to german", *WRITES[3:6]])
        return self.random.choice([
            FLUSH, execute(), execute(rows=1), describe(), describe("S", other), close("P", ""), close("S", other),
            self.bound(other), self.kept(other, self.random.choice(PARAMETERS)).removesuffix(SYNC),
            client.encode_parse(Parse("", self.filled(word), ())) + bind() + execute(),
            bind(other, portal="p", values=(b"1",)) + execute("p"), client.encode_parse(Parse("", "syntax error", ())),
        ])  # fmt: skip

    def behind(self) -> list[Step]:
        """A second query while the first is under way, whose template the server may refuse."""
        text = self.random.choice(self.random.choice([TWICE, PLAIN]))
        steps = [self.simple(self.filled(text)) for _ in range(self.random.choice([1, 3, 3, 6]))]
        if self.random.random() < 0.4:
            steps.append(Step(by_another=self.random.choice(BY_OTHERS)[0]))
        first, second = query(self.filled(text)), query(self.filled(text))
        return [*steps, Step(first + second, 2, len(first), self.random.randrange(8))]


def conversation(seed: int, *, length: int) -> list[Step]:
    return Lane(seed).conversation(length)
