"""What an idle connection costs a gateway process in memory: `python -m benchmarks.connections [N]`.

One gateway process for each kind. Its resident memory is read, N clients come and stay, and it is read again when they
are all idle: the difference by N, KB. The first hundred come before the first reading, so that what is loaded and
allocated once is not counted. The upstream is a stand-in (`idle_upstream`), since a thousand backends would not fit.

    handshake       the client has done its part of TLS and stopped in front of its password (at most 800 at once)
    session         authenticated, recorded, with an upstream session of its own in plaintext
    + TLS upstream  the same, the upstream session inside TLS as well
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.idle_upstream import running_upstream
from benchmarks.world import Endpoint, World, resident_kb, running_world
from gateway.protocols.postgres.frames import frame
from gateway.protocols.postgres.startup import encode_ssl_request, encode_startup

RESULTS = Path(__file__).with_name("results") / "connections.json"
SESSIONS, HANDSHAKES, WARM_UP = 1500, 800, 100
_SETTLED_S = 1.0
_READY = b"Z\x00\x00\x00\x05I"


@dataclass(frozen=True)
class Kind:
    """A kind of client. `connection`: the gateway's connection it opens; empty when it stops before its password."""

    what: str
    tls: bool
    connection: str = ""


KINDS = (
    Kind("handshake, plain", tls=False),
    Kind("handshake, TLS", tls=True),
    Kind("session, plain", tls=False, connection="idle-plain"),
    Kind("session, TLS", tls=True, connection="idle-plain"),
    Kind("session, TLS, + TLS upstream", tls=True, connection="idle-tls"),
)


@dataclass(frozen=True)
class Cost:
    what: str
    connections: int
    kb_each: float


def main(arguments: list[str]) -> None:
    sessions = int(arguments[0]) if arguments else SESSIONS
    with running_world(workers=1, secured=True) as world:
        assert world.certificates is not None
        with running_upstream(world.certificates.server_context()) as port:
            world.apply(_DOCUMENT.format(port=port, authority=world.authority))
            costs = [cost_of(kind, world, sessions) for kind in KINDS]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n", encoding="utf-8")


def cost_of(kind: Kind, world: World, sessions: int) -> Cost:
    """Open a hundred, then as many as asked for; what those cost. In a gateway process that has held no other."""
    world.renew_gateway()
    endpoint = world.gateway(kind.connection or "idle-plain", tls=kind.tls)
    context = ssl.create_default_context(cafile=world.authority) if kind.tls else None
    count = sessions if kind.connection else min(sessions, HANDSHAKES)
    open_one = partial(opened, endpoint, context, whole=bool(kind.connection))
    with ExitStack() as clients, ThreadPoolExecutor(4) as openers:
        for _ in range(WARM_UP):
            clients.enter_context(open_one())
        before = _resident(world)
        for client in openers.map(lambda _: open_one(), range(count)):
            clients.enter_context(client)
        each = (_resident(world) - before) / count
    print(f"{kind.what:32} {count:6} connections  {each:6.1f} KB each", flush=True)
    return Cost(kind.what, count, round(each, 1))


def opened(endpoint: Endpoint, context: ssl.SSLContext | None, *, whole: bool) -> socket.socket:
    """A client: with its session, or as far as the question for its password."""
    client = socket.create_connection((endpoint.host, endpoint.port), 60)
    if context is not None:
        client.sendall(encode_ssl_request())
        assert client.recv(1) == b"S"
        client = context.wrap_socket(client, server_hostname=endpoint.host)
    client.sendall(encode_startup({"user": endpoint.user, "database": endpoint.database}))
    said = client.recv(4096)
    assert said[:1] == b"R", said
    if whole:
        client.sendall(frame(b"p", endpoint.password.encode() + b"\0"))
        said = b""
        while not said.endswith(_READY):
            more = client.recv(65536)
            assert more, said
            said += more
    return client


def _resident(world: World) -> int:
    time.sleep(_SETTLED_S)
    return resident_kb(world.gateway_pid)


_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: idle-plain, kind: postgres, host: 127.0.0.1, port: {port}, database: bench, username: bench_app,
      password: {{value: "unused"}}, tls: disable, phi: false, recording: metadata, durability: os}}
  - {{name: idle-tls, kind: postgres, host: 127.0.0.1, port: {port}, database: bench, username: bench_app,
      password: {{value: "unused"}}, tls: verify-full, settings: {{ca_file: "{authority}"}},
      phi: false, recording: metadata, durability: os}}
access:
  - {{groups: [bench-agents], connections: ["idle-*"], operations: [read]}}
agents:
  - {{name: bench-agent, groups: [bench-agents], owner: admin}}
"""


if __name__ == "__main__":
    main(sys.argv[1:])
