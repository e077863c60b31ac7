"""Streams of client messages: valid ones from a grammar of the protocol, and what becomes of them under mutation.

One seed is one stream, so that a failure can be replayed: `hostile_stream(seed)`.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable

from gateway.protocols.postgres import client
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.protocols.postgres.frames import frame

SOAKING = bool(os.environ.get("HOOPWEB_SOAK"))
FIRST_SEED = int(os.environ.get("HOOPWEB_FUZZ_SEED", "20261120"))

# What a client may have in mind; none of it contains a protected value, all of it may be cut to pieces.
TEXTS = (
    "select id, ssn, born from people where id < 5",
    "select ssn || '!' from people limit 3",
    "select $1::int + 1",
    "select count(*) from people",
    "insert into scratch values (1, 'x')",
    "update people set name = 'x' where id = 1",
    "drop table people",
    "begin",
    "commit",
    "rollback",
    "savepoint a",
    "declare c cursor for select ssn from people",
    "fetch 3 from c",
    "close c",
    "prepare p as select ssn from people where id = $1",
    "execute p(1)",
    "deallocate all",
    "copy (select id, ssn from people where id < 9) to stdout",
    "copy (select ssn from people where id < 9) to stdout (format binary)",
    "copy scratch from stdin",
    "show search_path",
    "select 1/0",
    "select 1; select ssn from people limit 1; select 2",
    "select 'unfinished",
    "/* open",
    "",
    ";",
    "select set_config('search_path', 'other', false)",
    "select to_jsonb(p) from people p limit 2",
)
NAMES = ("", "", "a", "b")
PREPARATIONS = ("", "begin", "begin; select 1/0", "copy scratch from stdin", "declare c cursor for select 1")


class Messages:
    """Random messages of a client that knows the protocol, in no sensible order."""

    def __init__(self, random_: random.Random) -> None:
        self.random = random_

    def stream(self) -> bytes:
        return b"".join(self.message() for _ in range(self.random.randint(1, 14)))

    def message(self) -> bytes:
        make: Callable[[], bytes] = self.random.choice(
            [self.query, self.query, self.parse, self.bind, self.bind, self.execute, self.execute, self.describe,
             self.close, self.sync, self.sync, self.flush, self.copy, self.run, self.run, self.odd]
        )  # fmt: skip
        return make()

    def query(self) -> bytes:
        return frame(b"Q", self.random.choice(TEXTS).encode() + b"\0")

    def parse(self) -> bytes:
        types = self.random.choice([(), (), (23,), (0, 25)])
        return client.encode_parse(Parse(self.random.choice(NAMES), self.random.choice(TEXTS), types))

    def bind(self) -> bytes:
        values = self.random.choice([(), (b"1",), (None,), (b"1", b"x")])
        formats = self.random.choice([(), (0,), (1,), (0, 1, 0)])
        return client.encode_bind(
            Bind(self.random.choice(NAMES), self.random.choice(NAMES), (), values, formats)  # type: ignore[arg-type]
        )

    def execute(self) -> bytes:
        return client.encode_execute(Execute(self.random.choice((*NAMES, "c")), self.random.choice([0, 0, 1, 3, -1])))

    def describe(self) -> bytes:
        return client.encode_describe(Target(self.random.choice("SP"), self.random.choice((*NAMES, "c", "p"))))

    def close(self) -> bytes:
        return client.encode_close(Target(self.random.choice("SP"), self.random.choice(NAMES)))

    def sync(self) -> bytes:
        return client.SYNC_FRAME

    def flush(self) -> bytes:
        return client.FLUSH_FRAME

    def copy(self) -> bytes:
        return self.random.choice(
            [frame(b"d", b"1\tx\n"), frame(b"d", self.random.randbytes(20)), frame(b"c"), frame(b"f", b"stop\0")]
        )

    def run(self) -> bytes:
        """The whole life of one statement, as drivers send it."""
        name, text = self.random.choice(NAMES), self.random.choice(TEXTS)
        return (
            client.encode_parse(Parse(name, text, ()))
            + client.encode_bind(Bind("", name, (), (), self.random.choice([(), (1,)])))
            + client.encode_describe(Target("P", ""))
            + client.encode_execute(Execute("", self.random.choice([0, 2])))
            + client.SYNC_FRAME
        )

    def odd(self) -> bytes:
        return self.random.choice(
            [
                frame(b"F", struct.pack("!ihhh", 1598, 0, 0, 0)),
                frame(b"p", b"again\0"),
                frame(bytes([self.random.randrange(256)]), self.random.randbytes(self.random.randrange(30))),
            ]
        )


def mutated(stream: bytes, random_: random.Random) -> bytes:
    """A few wounds: bits flipped, spans cut, doubled or filled with noise, lengths that lie."""
    data = bytearray(stream)
    for _ in range(random_.choice([0, 0, 1, 1, 2, 5])):
        if not data:
            break
        at = random_.randrange(len(data))
        span = random_.randint(1, 12)
        match random_.randrange(6):
            case 0:
                data[at] ^= 1 << random_.randrange(8)
            case 1:
                del data[at : at + span]
            case 2:
                data[at:at] = data[at : at + 4 * span]
            case 3:
                data[at:at] = random_.randbytes(span)
            case 4:
                data[at : at + 4] = struct.pack("!I", random_.choice([0, 3, 4, 5, 64, 0x7FFFFFFF, 0xFFFFFFFF]))
            case 5:
                del data[at:]
    return bytes(data)


def hostile_stream(seed: int) -> tuple[str, bytes, list[int]]:
    """(a statement that brings the session into some state, the stream, the sizes of the pieces it is sent in)."""
    random_ = random.Random(seed)
    preparation = random_.choice(PREPARATIONS)
    stream = mutated(Messages(random_).stream(), random_)
    sizes = random_.choice([[1 << 20], [1], [7, 1, 30], [random_.randint(1, 100) for _ in range(5)]])
    return preparation, stream, sizes


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    cut, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        cut.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return cut
