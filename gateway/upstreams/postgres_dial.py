"""The way to a PostgreSQL server: TCP, or a Unix-domain socket whose server may have to be a certain user's."""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct

from gateway.domain.snapshot import ConnectionSpec
from gateway.domain.sockets import DEFAULT_PORT, is_socket, socket_path, socket_problems
from gateway.upstreams.registry import UpstreamFailed

# How soon it is tried again where a server's backlog is full: over a Unix socket nothing tells when it is not any more.
BUSY_S = 0.02
_CREDENTIALS = struct.Struct("3i")  # struct ucred of Linux: process, user, group


async def dial(protocol: asyncio.Protocol, spec: ConnectionSpec) -> None:
    """Connect `protocol` to the server. Raises OSError, or UpstreamFailed; nothing was sent by then."""
    refuse_contradictions(spec)
    loop = asyncio.get_running_loop()
    if not is_socket(spec.host):
        await loop.create_connection(lambda: protocol, spec.host, spec.port or DEFAULT_PORT)
        return
    connected = await _connected(socket_path(spec.host, spec.port))
    try:
        _require_peer(connected, spec.settings.get("requirepeer", ""))
        await loop.create_unix_connection(lambda: protocol, sock=connected)
    except BaseException:
        connected.close()
        raise


def refuse_contradictions(spec: ConnectionSpec) -> None:
    """What the console and `apply` refuse was written another way: nothing less than it says may be done."""
    problems = socket_problems(host=spec.host, port=spec.port, tls=spec.tls, settings=spec.settings)
    for field, problem in problems.items():
        raise UpstreamFailed(f"the connection cannot be used as it is: {field}: {problem}", sqlstate="08001")


async def _connected(path: str) -> socket.socket:
    """A socket that is connected, without waiting: the kernel answers at once, with a refusal while it is crowded."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        while True:
            try:
                found.connect(path)
            except BlockingIOError:
                await asyncio.sleep(BUSY_S)
            else:
                return found
    except BaseException as error:
        found.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise UpstreamFailed("no server listens on the connection's Unix socket", sqlstate="08001") from None
        if isinstance(error, PermissionError):
            raise UpstreamFailed("the gateway may not use the connection's Unix socket", sqlstate="08001") from None
        raise


def _require_peer(connected: socket.socket, name: str) -> None:
    """As libpq's `requirepeer`: whose process listens, as the kernel says, before anything is said to it."""
    if not name:
        return
    _, user, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        found = pwd.getpwuid(user).pw_name
    except (KeyError, OverflowError):  # fail closed: somebody this machine has no name for
        found = ""
    if found != name:
        raise UpstreamFailed("the Unix socket is served by another user than settings.requirepeer", sqlstate="08001")
