"""TLS at the client's door: direct and requested, verified by the client, and certificates as a second factor."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import trustme

from gateway.listeners.postgres import Limits, PostgresListener
from gateway.protocols.postgres.startup import encode_ssl_request, encode_startup
from tests.gateway.listeners.harness import HOST, TOKEN, Gateway
from tests.gateway.listeners.raw import RawClient, errors, kinds, query, rows
from tests.gateway.listeners.test_postgres_holding import begun


@dataclass
class Secured:
    """A gateway that speaks TLS, and what its clients need."""

    gateway: Gateway
    authority: trustme.CA
    ca_file: Path
    folder: Path

    def dsn(self, **more: str) -> str:
        return self.gateway.dsn(sslmode="verify-full", sslrootcert=str(self.ca_file), **more)

    def certificate(self, name: str, *, authority: trustme.CA | None = None) -> dict[str, str]:
        """libpq's words for a client certificate of this name."""
        issued = (authority or self.authority).issue_cert(name, common_name=name)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return {"sslcert": str(cert), "sslkey": str(key)}

    def context(self, *alpn: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


async def secured(folder: Path, *, client_certificates: bool, limits: Limits | None = None) -> Secured:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    if client_certificates:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    gateway = Gateway(ssl_context=context, limits=limits)
    await gateway.start()
    return Secured(gateway, authority, ca_file, folder)


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[Secured]:
    running = await secured(tmp_path, client_certificates=False)
    yield running
    await running.gateway.stop()


@pytest.fixture
async def mutual(tmp_path: Path) -> AsyncIterator[Secured]:
    running = await secured(tmp_path, client_certificates=True)
    yield running
    await running.gateway.stop()


async def selected(dsn: str) -> object:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        row = await (await connection.execute("select 41 + 1")).fetchone()
    return row[0] if row else None


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
async def test_client_verifies_the_gateway_by_name(tls: Secured, negotiation: str) -> None:
    assert await selected(tls.dsn(sslnegotiation=negotiation)) == 42

    assert tls.gateway.record.of("session.opened")[0].body["client_tls"].startswith("TLSv1.")


async def test_client_that_trusts_another_authority_does_not_connect(tls: Secured, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))

    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        await psycopg.AsyncConnection.connect(tls.gateway.dsn(sslmode="verify-full", sslrootcert=str(other)))


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
async def test_direct_tls_without_our_protocol_is_refused(tls: Secured, alpn: tuple[str, ...]) -> None:
    """Another protocol's client, led here by somebody else, must not get an answer (ALPACA)."""
    port = tls.gateway.listener.port
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls.context(*alpn), server_hostname=HOST)
    writer.write(encode_startup({"user": "demo-agent", "database": "people"}))
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()

    assert answer == b""


async def test_direct_tls_survives_any_chunking_of_the_hello(tls: Secured) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.context("postgresql").wrap_bio(incoming, outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    reader, writer = await asyncio.open_connection(HOST, tls.gateway.listener.port)
    for at in range(len(hello)):
        writer.write(hello[at : at + 1])
        await asyncio.sleep(0.001 if at < 20 else 0)
    incoming.write(await asyncio.wait_for(reader.read(65536), 60))
    writer.close()

    with contextlib.suppress(ssl.SSLWantReadError):  # the rest of the server's flight may still be under way
        client.do_handshake()
    assert client.version() in {"TLSv1.2", "TLSv1.3"}


async def test_a_handshake_that_stalls_is_ended(tmp_path: Path) -> None:
    stalling = await secured(tmp_path, client_certificates=False, limits=Limits(authentication_timeout_s=0.3))
    reader, writer = await asyncio.open_connection(HOST, stalling.gateway.listener.port)
    writer.write(encode_ssl_request())
    granted = await reader.readexactly(1)
    writer.write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a hello
    end = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await stalling.gateway.stop()

    assert (granted, end) == (b"S", b"")


async def test_nothing_is_resumed_or_renegotiated(tls: Secured) -> None:
    """A resumed session's certificate would not be looked at again, nor one that renegotiates be who it was."""
    port = tls.gateway.listener.port
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls.context("postgresql"), server_hostname=HOST)
    writer.write(encode_startup({"user": "demo-agent", "database": "people"}))
    await reader.readexactly(9)  # tickets would have come before it
    session = writer.get_extra_info("ssl_object").session
    writer.close()

    assert not session.has_ticket
    assert tls.gateway.ssl_context is not None
    assert tls.gateway.ssl_context.options & ssl.OP_NO_RENEGOTIATION


async def test_direct_tls_is_refused_where_there_is_none() -> None:
    gateway = await Gateway().start()
    reader, writer = await asyncio.open_connection(HOST, gateway.listener.port)
    writer.write(b"\x16\x03\x01\x02\x00" + b"\0" * 600)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await gateway.stop()

    assert answer[:1] == b"E"


async def test_own_certificate_opens_a_session(mutual: Secured) -> None:
    assert await selected(mutual.dsn(**mutual.certificate("demo-agent"))) == 42


async def test_certificate_is_no_identity_of_its_own(mutual: Secured) -> None:
    """It is a second factor: the token is still asked for."""
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        await psycopg.AsyncConnection.connect(mutual.dsn(password="wrong", **mutual.certificate("demo-agent")))


async def test_certificate_of_another_agent_is_refused_and_recorded(mutual: Secured) -> None:
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        await psycopg.AsyncConnection.connect(mutual.dsn(**mutual.certificate("other-agent")))

    failure = mutual.gateway.record.of("authentication.failed")[0]
    assert failure.body["reason"] == "the client certificate is not the principal's"


async def test_missing_or_foreign_certificate_ends_in_the_tls_handshake(mutual: Secured) -> None:
    foreign = mutual.certificate("demo-agent", authority=trustme.CA())

    for words in ({}, foreign):
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(mutual.dsn(**words))

    assert not mutual.gateway.record.of("session.opened")


async def test_plaintext_is_no_way_around_the_certificate(mutual: Secured) -> None:
    with pytest.raises(psycopg.OperationalError, match="TLS only"):
        await psycopg.AsyncConnection.connect(mutual.gateway.dsn(sslmode="disable"))


# --- Versions of the protocol ---------------------------------------------------------------------------------------


async def opened(listener: PostgresListener, minor: int, **settings: str) -> tuple[RawClient, list[tuple[str, bytes]]]:
    """A session opened with protocol 3.`minor`, and everything the gateway said meanwhile."""
    raw = RawClient(*await asyncio.open_connection(HOST, listener.port))
    packet = bytearray(encode_startup({"user": "demo-agent", "database": "people", **settings}))
    packet[4:8] = struct.pack("!HH", 3, minor)
    raw.writer.write(packet)
    said = await raw.until("R")
    raw.writer.write(b"p" + struct.pack("!I", len(TOKEN) + 5) + TOKEN.encode() + b"\0")
    return raw, said + await raw.until_ready()


@pytest.mark.parametrize(("minor", "spoken", "secret_bytes"), [(0, None, 4), (2, None, 32), (3, 2, 32), (9999, 2, 32)])
async def test_protocol_versions_are_negotiated(
    gateway: Gateway, minor: int, spoken: int | None, secret_bytes: int
) -> None:
    raw, said = await opened(gateway.listener, minor)
    raw.close()

    negotiated = [body for kind, body in said if kind == "v"]
    assert negotiated == ([] if spoken is None else [struct.pack("!HHi", 3, spoken, 0)])
    assert [len(body) - 4 for kind, body in said if kind == "K"] == [secret_bytes]


async def test_unknown_protocol_options_are_named_back(gateway: Gateway) -> None:
    raw, said = await opened(gateway.listener, 0, **{"_pq_.test_protocol_negotiation": "1"})
    raw.close()

    assert said[0] == ("v", struct.pack("!HHi", 3, 0, 1) + b"_pq_.test_protocol_negotiation\0")


async def test_long_cancel_key_cancels(gateway: Gateway) -> None:
    raw, said = await opened(gateway.listener, 2)
    key = next(body for kind, body in said if kind == "K")
    raw.writer.write(query("select pg_sleep(30)"))
    await begun(gateway)
    with socket.create_connection((HOST, gateway.listener.port)) as courier:
        courier.sendall(struct.pack("!II", 8 + len(key), 80877102) + key)
    got = await raw.until_ready()
    raw.close()

    assert errors(got)[0]["C"] == "57014"


@pytest.mark.parametrize(
    "settings",
    [
        {"search_path": "public"},
        {"search_path": '"$user", public'},
        {"client_encoding": "'utf-8'", "DateStyle": "ISO", "TimeZone": "Europe/Berlin", "extra_float_digits": "2"},
        {"options": "-c search_path=public -c geqo=off"},
        {"default_transaction_read_only": "on", "jit": "off"},
    ],
)
async def test_settings_drivers_send_are_accepted(gateway: Gateway, settings: dict[str, str]) -> None:
    raw, said = await opened(gateway.listener, 0, **settings)
    answer = await raw.ask(query("select 1"))
    raw.close()

    assert kinds(said)[-1] == "Z"
    assert rows(answer) == [[b"1"]]
