from __future__ import annotations

import asyncio
import socket
import ssl
import time

from gateway.listeners.postgres import Limits
from gateway.protocols.postgres.frames import frame
from gateway.protocols.postgres.startup import encode_startup
from tests.gateway.listeners.harness import HOST, TOKEN
from tests.gateway.listeners.raw import RawClient, errors, query, rows
from tests.gateway.listeners.test_postgres_tls import secured


def inner():
    return encode_startup({"user": "demo-agent", "database": "people"})


async def conn(s):
    return await asyncio.open_connection(HOST, s.gateway.listener.port)


async def rest(r, t=6):
    try:
        return await asyncio.wait_for(r.read(), t)
    except TimeoutError:
        return b"HANG"
    except ConnectionError as e:
        return repr(e).encode()


def hello(s):
    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
    t = s.context().wrap_bio(i, o, server_hostname=HOST)
    try:
        t.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return t, i, o, o.read()


async def test_all(tmp_path):
    print("LOOP", asyncio.get_running_loop())
    s = await secured(tmp_path, client_certificates=False, limits=Limits(authentication_timeout_s=3))
    # 7 client leaves by close_notify + keeps tcp open and reads nothing in a big result
    for way in ("notify", "abort", "fin"):
        c = await raw(s)
        n0 = len(s.gateway.listener._keys)
        c.writer.write(query("select repeat('x',1000) from generate_series(1,600000)"))
        c.reader._transport.pause_reading()
        await asyncio.sleep(0.7)
        so = c.writer.get_extra_info("ssl_object")
        tr = c.reader._transport
        if way == "abort":
            tr.abort()
        elif way == "fin":
            socket.socket(fileno=__import__("os").dup(tr.get_extra_info("socket").fileno())).shutdown(socket.SHUT_WR)
        elif way == "notify":
            tr.close()
        t1 = time.time()
        while len(s.gateway.listener._keys) >= n0 and time.time() - t1 < 45 and way != "eof":
            await asyncio.sleep(0.2)
        print(way, "session ended after", round(time.time() - t1, 1), len(s.gateway.listener._keys))
        tr.abort()
        await asyncio.sleep(1)
    # 8 pipelined 5000 small queries in 1-byte records
    c = await raw(s)
    for b in query("select 42") * 200:
        c.writer.write(bytes([b]))
    n = 0
    for _ in range(200):
        n += len(rows(await c.until_ready()))
    print("1-byte records", n)
    c.close()
    # upload big
    c = await raw(s)
    got = await c.ask(query("select length('" + "y" * 20_000_000 + "')"))
    print("20MB statement", rows(got), [e["M"][:80] for e in errors(got)])
    c.close()
    await s.gateway.stop()


async def full(s):
    c = await raw(s)
    got = await c.ask(query("select 1"))
    c.close()
    return rows(got)


async def raw(s):
    c = RawClient(
        *await asyncio.open_connection(HOST, s.gateway.listener.port, ssl=s.context("postgresql"), server_hostname=HOST)
    )
    c.writer.write(inner())
    assert (await c.receive())[0] == "R"
    c.writer.write(frame(b"p", TOKEN.encode() + b"\0"))
    await c.until_ready()
    return c
