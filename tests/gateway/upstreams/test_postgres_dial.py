"""The way over a Unix-domain socket: whose server it is comes before anything that is said to it."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import psycopg
import pytest
import uvloop
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.postgres.frames import frame
from gateway.upstreams.postgres import connect
from gateway.upstreams.postgres_trust import libpq_tls
from gateway.upstreams.registry import UpstreamFailed
from tests.services import SUPERUSER_DSN
from tests.sidecar import running_sidecar

SERVER = conninfo_to_dict(os.environ[SUPERUSER_DSN])
ADDRESS = str(SERVER["host"]), int(str(SERVER["port"]))
PORT = 5432
SECRET = "canary-of-a-password"
MYSELF = pwd.getpwuid(os.geteuid()).pw_name
SOMEBODY_ELSE = "daemon" if MYSELF != "daemon" else "bin"
IN_CLEAR = frame(b"R", struct.pack("!I", 3))  # AuthenticationCleartextPassword
MD5 = frame(b"R", struct.pack("!I", 5) + b"salt")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: pytest's own are nearly as long as a socket's path may be."""
    with tempfile.TemporaryDirectory(prefix="hw-") as made:
        yield Path(made)


def spec_of(host: Path | str, **changes: object) -> ConnectionSpec:
    spec = ConnectionSpec("socket", "postgres", str(host), PORT, "postgres", "somebody", "disable")
    return replace(spec, **changes)  # type: ignore[arg-type]


def requiring(peer: str) -> MappingProxyType[str, str]:
    return MappingProxyType({"requirepeer": peer})


@dataclass
class Listener:
    """Somebody in the server's place, who keeps what is said to him and answers it with `answer`."""

    answer: bytes
    calls: int = 0
    heard: bytearray = field(default_factory=bytearray)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(self.answer)
        except OSError:
            pass
        finally:
            writer.close()
            self.over.set()


@asynccontextmanager
async def listening(folder: Path, answer: bytes = b"") -> AsyncIterator[Listener]:
    listener = Listener(answer)
    server = await asyncio.start_unix_server(listener.serve, folder / f".s.PGSQL.{PORT}")
    yield listener
    server.close()


def superuser(spec: ConnectionSpec) -> tuple[ConnectionSpec, dict[str, str]]:
    return replace(spec, username=str(SERVER["user"])), {"password": str(SERVER["password"])}


async def refused(spec: ConnectionSpec) -> str:
    with pytest.raises(UpstreamFailed) as found:
        await connect(spec, {"password": SECRET})
    return found.value.message


@pytest.mark.parametrize("peer", ["", MYSELF])
async def test_session_signs_in_through_a_sidecar(folder: Path, peer: str) -> None:
    spec, credential = superuser(spec_of(folder, settings=requiring(peer) if peer else MappingProxyType({})))

    with running_sidecar(f"{folder}/.s.PGSQL.{PORT}", ADDRESS):
        connection = await connect(spec, credential)
        connection.abort()

    assert connection.parameters["client_encoding"] == "UTF8"
    assert (connection.authentication, connection.tls) == ("SCRAM-SHA-256", "")


async def test_nothing_is_said_to_another_users_server(folder: Path) -> None:
    async with listening(folder, IN_CLEAR) as listener:
        told = await refused(spec_of(folder, settings=requiring(SOMEBODY_ELSE)))
        await listener.over.wait()

    assert told == "the Unix socket is served by another user than settings.requirepeer"
    assert (listener.calls, bytes(listener.heard)) == (1, b"")


async def test_listener_hears_what_is_said_without_the_rule(folder: Path) -> None:
    async with listening(folder, IN_CLEAR) as listener:
        told = await refused(spec_of(folder))

    assert told == "the upstream asked for a cleartext password outside TLS"
    assert b"user\0somebody\0" in listener.heard
    assert SECRET.encode() not in listener.heard


def side_connection(spec: ConnectionSpec, *, password: str) -> str:
    words = {"host": spec.host, "port": str(spec.port), "dbname": spec.database, "user": spec.username}
    return make_conninfo(**words, password=password, connect_timeout="10", **libpq_tls(spec))


async def test_side_connections_say_nothing_to_another_users_server(folder: Path) -> None:
    spec = spec_of(folder, settings=requiring(SOMEBODY_ELSE))

    async with listening(folder, IN_CLEAR) as listener:
        with pytest.raises(psycopg.OperationalError, match="requirepeer specifies"):
            await psycopg.AsyncConnection.connect(side_connection(spec, password=SECRET))
        await listener.over.wait()

    assert bytes(listener.heard) == b""


@pytest.mark.parametrize("asked", [IN_CLEAR, MD5])
async def test_side_connections_tell_nobody_their_password_in_clear(folder: Path, asked: bytes) -> None:
    async with listening(folder, asked) as listener:
        with pytest.raises(psycopg.OperationalError, match="authentication method requirement"):
            await psycopg.AsyncConnection.connect(side_connection(spec_of(folder), password=SECRET))
        await listener.over.wait()

    assert b"user\0somebody\0" in listener.heard
    assert listener.heard.count(b"p\0\0\0") == 0  # no PasswordMessage


async def test_side_connection_signs_in_through_a_sidecar(folder: Path) -> None:
    spec, credential = superuser(spec_of(folder, settings=requiring(MYSELF)))

    with running_sidecar(f"{folder}/.s.PGSQL.{PORT}", ADDRESS):
        async with await psycopg.AsyncConnection.connect(side_connection(spec, **credential)) as connection:
            assert await (await connection.execute("select 1")).fetchone() == (1,)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tls": "verify-full"}, "there is no TLS over a Unix socket"),
        ({"tls": "require"}, "there is no TLS over a Unix socket"),
        ({"settings": MappingProxyType({"ca_file": "/ca.pem"})}, "ca_file is for TLS"),
        ({"settings": MappingProxyType({"requirepeer": "nobody"})}, "requirepeer is nobody"),
    ],
)
async def test_contradictions_are_refused_by_whoever_dials(
    folder: Path, changes: dict[str, object], problem: str
) -> None:
    """The console and `apply` refuse them first; rows may be written another way."""
    async with listening(folder) as listener:
        told = await refused(spec_of(folder, **changes))

    assert problem in told
    assert listener.calls == 0


async def test_peer_nobody_can_ask_for_is_refused_over_tcp() -> None:
    told = await refused(spec_of(ADDRESS[0], port=ADDRESS[1], settings=requiring(MYSELF)))

    assert "requirepeer is for Unix sockets" in told


def test_side_connections_dial_no_other_host_behind_a_comma() -> None:
    with pytest.raises(UpstreamFailed, match="without a comma"):
        libpq_tls(spec_of("/run/postgresql,db.example"))


async def test_absent_server_is_told_in_words(folder: Path) -> None:
    spec = spec_of(folder)
    absent = await refused(spec)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(f"{folder}/.s.PGSQL.{PORT}")
    left = await refused(spec)

    assert absent == left == "no server listens on the connection's Unix socket"


def test_crowded_server_is_asked_again(folder: Path) -> None:
    """A server whose backlog is full says so at once; uvloop would take the refusal for a connection."""
    path = f"{folder}/.s.PGSQL.{PORT}"

    async def play(server: socket.socket) -> None:
        asking = asyncio.ensure_future(connect(spec_of(folder), {"password": SECRET}))
        await asyncio.sleep(0.1)
        assert not asking.done()
        server.accept()[0].close()
        taken, _ = await asyncio.to_thread(server.accept)
        taken.sendall(IN_CLEAR)
        with taken, pytest.raises(UpstreamFailed, match="cleartext password"):
            await asking

    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(path)
        server.listen(0)
        first.connect(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as second:
            assert second.connect_ex(path) == errno.EAGAIN
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(play(server))
