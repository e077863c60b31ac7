"""The upstream leg: TLS and every authentication method on a real server, and servers that lie."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import psycopg
import pytest
import trustme
from psycopg.conninfo import make_conninfo

from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.postgres.frames import frame
from gateway.upstreams.postgres import UpstreamConnection, connect
from gateway.upstreams.postgres_trust import libpq_tls, tls_context
from gateway.upstreams.postgres_witness import prepare
from gateway.upstreams.registry import UpstreamFailed

BIN = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "pässword, long enough"


@dataclass
class Server:
    port: int
    ca_file: str

    def spec(self, user: str = "scram", **changes: object) -> ConnectionSpec:
        words = {
            "name": "tls",
            "kind": "postgres",
            "host": "127.0.0.1",
            "port": self.port,
            "database": "postgres",
            "username": user,
            "tls": "verify-full",
            "settings": MappingProxyType({"ca_file": self.ca_file}),
            **changes,
        }
        return ConnectionSpec(**words)  # type: ignore[arg-type]


HBA = """
local all postgres trust
hostnossl all plain 127.0.0.1/32 password
hostnossl all md5 127.0.0.1/32 md5
hostnossl all all 127.0.0.1/32 scram-sha-256
hostssl all plain 127.0.0.1/32 password
hostssl all md5 127.0.0.1/32 md5
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL with OpenSSL (Debian's), which the embedded one is not."""
    if not BIN.exists():
        pytest.skip("needs Debian's PostgreSQL with TLS: apt-get install postgresql-15")
    home = Path(tempfile.mkdtemp(prefix="hoopweb-tls-"))
    home.chmod(0o755)
    user = "nobody" if os.getuid() == 0 else None
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    data = home / "data"
    data.mkdir()
    if user:
        shutil.chown(data, user)
    run = {"check": True, "user": user, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([BIN / "initdb", "-A", "trust", "-U", "postgres", "-D", data, "--no-sync"], **run)
    certificate.private_key_pem.write_to_path(str(data / "server.key"))
    certificate.cert_chain_pems[0].write_to_path(str(data / "server.crt"))
    (data / "server.key").chmod(0o600)
    (data / "pg_hba.conf").write_text(HBA)
    for name in ("server.key", "server.crt", "pg_hba.conf"):
        if user:
            shutil.chown(data / name, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [BIN / "postgres", "-D", data, "-p", str(port), "-k", str(data), "-c", "ssl=on", "-c", "fsync=off",
         "-c", "listen_addresses=127.0.0.1"],
        user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _make_users(data, port)
        yield Server(port, str(home / "ca.pem"))
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


def _make_users(data: Path, port: int) -> None:
    script = f"""
        create role scram login password '{PASSWORD}';
        create role plain login password '{PASSWORD}';
        set password_encryption = md5;
        create role md5 login password '{PASSWORD}';
    """
    until = time.monotonic() + 30
    while True:
        done = subprocess.run(
            ["psql", "-X", "-h", str(data), "-p", str(port), "-U", "postgres", "-c", script], capture_output=True
        )
        if done.returncode == 0:
            return
        assert time.monotonic() < until, done.stderr.decode()
        time.sleep(0.1)


def credential(spec: ConnectionSpec, password: str = PASSWORD) -> dict[str, str]:
    return {"username": spec.username, "password": password}


@pytest.mark.parametrize("tls", ["require", "verify-full"])
def test_no_server_renegotiates(server: Server, tls: str) -> None:
    assert tls_context(server.spec(tls=tls)).options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("user", ["scram", "md5", "plain"])
@pytest.mark.parametrize("tls", ["require", "verify-full"])
async def test_every_method_works_inside_tls(server: Server, user: str, tls: str) -> None:
    spec = server.spec(user, tls=tls)
    connection = await connect(spec, credential(spec))
    connection.close()

    assert connection.tls.startswith("TLSv1.")
    assert connection.parameters["client_encoding"] == "UTF8"


@pytest.mark.parametrize("tls", ["require", "verify-full"])
def test_side_connections_trust_whom_the_sessions_trust(server: Server, tls: str) -> None:
    spec = server.spec(tls=tls)
    words = {"host": spec.host, "port": spec.port, "dbname": spec.database, "user": spec.username}

    words |= {"password": PASSWORD}
    with psycopg.connect(make_conninfo(**words, **libpq_tls(spec))) as connection:
        assert connection.pgconn.ssl_in_use

    other = replace(spec, tls="verify-full", settings=MappingProxyType({}))  # then the system's authorities
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(make_conninfo(**words, **libpq_tls(other)))


async def test_a_changed_file_of_authorities_is_read_at_once(server: Server, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    shutil.copyfile(server.ca_file, ca_file)
    spec = server.spec(settings=MappingProxyType({"ca_file": str(ca_file)}))
    trusting = await connect(spec, credential(spec))
    shared = tls_context(spec)
    trusting.abort()

    trustme.CA().cert_pem.write_to_path(str(ca_file))

    assert tls_context(server.spec()) is tls_context(server.spec())
    assert tls_context(spec) is not shared
    with pytest.raises(UpstreamFailed):
        await connect(spec, credential(spec))


async def test_scram_is_bound_to_the_tls_channel(server: Server) -> None:
    spec = server.spec()
    connection = await connect(spec, credential(spec))
    connection.close()

    assert connection.authentication == "SCRAM-SHA-256-PLUS"


async def test_scram_bound_to_another_channel_is_refused_by_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the binding: a digest of another certificate, as a host in between would have to send."""
    monkeypatch.setattr("gateway.upstreams.postgres.end_point_digest", lambda _: b"x" * 32)
    spec = server.spec()

    with pytest.raises(UpstreamFailed, match=r"28000|28P01|08P01"):
        await connect(spec, credential(spec))


async def test_scram_that_hides_the_offer_of_binding_is_noticed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody in between who strips -PLUS from the offer: `y` tells the server that we would have bound."""
    monkeypatch.setattr("gateway.upstreams.postgres_login.MECHANISM_PLUS", "nothing")
    spec = server.spec()

    with pytest.raises(UpstreamFailed, match=r"28000|28P01|08P01"):
        await connect(spec, credential(spec))


@pytest.mark.parametrize("user", ["md5", "plain"])
async def test_weak_methods_are_refused_outside_tls(server: Server, user: str) -> None:
    spec = server.spec(user, tls="disable")
    with pytest.raises(UpstreamFailed, match="outside TLS"):
        await connect(spec, credential(spec))


async def test_unknown_authority_is_refused(server: Server) -> None:
    spec = server.spec(settings=MappingProxyType({}))
    with pytest.raises(UpstreamFailed, match="prove itself"):
        await connect(spec, credential(spec))


async def test_another_host_name_is_refused(server: Server) -> None:
    spec = server.spec(host="localhost")  # the certificate names 127.0.0.1
    with pytest.raises(UpstreamFailed, match="prove itself"):
        await connect(spec, credential(spec))


async def test_wrong_password_is_a_clear_error_without_the_password(server: Server) -> None:
    spec = server.spec()
    with pytest.raises(UpstreamFailed) as failed:
        await connect(spec, credential(spec, "wrong password"))

    assert failed.value.sqlstate == "28P01"
    assert "wrong password" not in str(failed.value)


async def test_plaintext_is_refused_off_loopback() -> None:
    spec = ConnectionSpec(name="x", kind="postgres", host="192.0.2.1", port=5432, tls="disable")
    with pytest.raises(UpstreamFailed, match="only allowed on loopback"):
        await asyncio.wait_for(_connect_briefly(spec), 5)


async def _connect_briefly(spec: ConnectionSpec) -> None:
    await connect(spec, {"username": "u", "password": "p"})


@asynccontextmanager
async def liar(answer: bytes) -> AsyncIterator[ConnectionSpec]:
    """A server that answers the first bytes it gets with `answer`, whatever they were."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield ConnectionSpec(name="liar", kind="postgres", host="127.0.0.1", port=port, tls="disable")
    finally:
        server.close()


SASL = frame(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
OK = frame(b"R", struct.pack("!I", 0))


@pytest.mark.parametrize(
    "answer",
    [
        b"R" + struct.pack("!I", 0x7FFFFFFF),
        b"R" + struct.pack("!I", 0),
        SASL + OK,  # skips its own proof
        SASL + frame(b"R", struct.pack("!I", 11) + b"r=short,s=AAAA,i=1"),
        frame(b"R", struct.pack("!I", 3)),  # wants the password in clear
        frame(b"R", struct.pack("!I", 5) + b"salt"),
        frame(b"R", struct.pack("!I", 7)),  # GSSAPI
        frame(b"Z", b"I"),  # ready without authentication
        frame(b"N", b"SNOTICE\0C00000\0Mendless\0\0") * 300,
        frame(b"D", b"\0\0"),
    ],
)
async def test_servers_that_lie_are_refused(answer: bytes) -> None:
    async with liar(answer) as spec:
        with pytest.raises(UpstreamFailed):
            await asyncio.wait_for(_connect_briefly(spec), 5)


@pytest.mark.parametrize("injected", [b"", frame(b"S", b"server_version\0injected\0"), b"N\0\0\0\x40S"])
async def test_what_is_said_before_tls_is_an_injection(injected: bytes) -> None:
    """Somebody in between speaks as soon as it is connected, then lets the server's TLS through (CVE-2021-23222)."""
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await writer.start_tls(context)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = UpstreamConnection()
    await asyncio.get_running_loop().create_connection(lambda: connection, *server.sockets[0].getsockname())
    connection.data_received(injected)  # uvloop reads before the task goes on that connected
    refused = pytest.raises(UpstreamFailed, match="before TLS") if injected else contextlib.nullcontext()
    with refused:
        await asyncio.wait_for(connection.upgrade(trusting, "127.0.0.1"), 5)
    connection.abort()
    server.close()

    assert connection.tls.startswith("" if injected else "TLSv1.")


async def test_trees_that_are_kept_for_a_moment_are_compressed_the_quick_way(server: Server) -> None:
    """The embedded server knows no other way than its own, which takes a tenth of a second reading."""
    words = {"host": "127.0.0.1", "port": server.port, "dbname": "postgres", "user": "scram", "password": PASSWORD}
    async with await psycopg.AsyncConnection.connect(make_conninfo(**words), autocommit=True) as connection:
        usual = await (await connection.execute("SHOW default_toast_compression")).fetchone()
        await prepare(connection)
        quick = await (await connection.execute("SHOW default_toast_compression")).fetchone()

    assert (usual, quick) == (("pglz",), ("lz4",))
