"""Unix-domain sockets as addresses of PostgreSQL, as libpq writes them.

A host that begins with `/` is a directory of sockets: the server listens on `HOST/.s.PGSQL.PORT` (PostgreSQL
documentation, 32.1.2). Names of Linux's that are in no file system (`@name`) are not understood: anybody may take one.

Nothing leaves the machine there, and there is no TLS. Who serves a socket is told by the kernel, and asked for by
`settings.requirepeer`.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT_PORT = 5432
# sun_path of unix(7) has 108 bytes, of which the last one is a NUL; libpq refuses longer ones as well.
MAX_PATH_BYTES = 107
# The kernel says so of everybody whom it cannot name here (user_namespaces(7), overflowuid): it is no one.
NOBODY = "nobody"
_FILE = ".s.PGSQL."


def is_socket(host: str) -> bool:
    return host.startswith("/")


def socket_path(host: str, port: int) -> str:
    """Where the server listens."""
    return f"{host}/{_FILE}{port or DEFAULT_PORT}"


def host_problem(host: str, port: int) -> str:
    """What is wrong with a host that is a socket's directory, or nothing."""
    if not host.isprintable():
        return "expected a directory without control characters"
    if "," in host:  # libpq would take what follows for another host, and dial it when this one is away
        return "expected one directory, without a comma"
    if _FILE in host:
        return f"expected the directory alone: the gateway adds {_FILE}PORT"
    length = len(socket_path(host, port).encode())
    if length > MAX_PATH_BYTES:
        return f"the socket's path has {length} bytes, expected no more than {MAX_PATH_BYTES}"
    return ""


def socket_problems(*, host: str, port: int, tls: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Field → sentence: what contradicts itself in a PostgreSQL connection whose host is a socket, or is none."""
    peer = settings.get("requirepeer")
    if not is_socket(host):
        return {"settings": "requirepeer is for Unix sockets: nobody can say who serves a port"} if peer else {}
    found = {"host": host_problem(host, port), "settings": _settings_problem(settings)}
    if tls != "disable":
        found["tls"] = (
            "there is no TLS over a Unix socket, expected disable; settings.requirepeer names whose server it must be"
        )
    return {field: problem for field, problem in found.items() if problem}


def _settings_problem(settings: Mapping[str, str]) -> str:
    peer = settings.get("requirepeer")
    if settings.get("ca_file"):
        return "ca_file is for TLS, and there is none over a Unix socket"
    if peer is not None and (not peer.strip() or not peer.isprintable()):
        return "expected the name of a user of this machine for requirepeer"
    if peer == NOBODY:
        return f"requirepeer is {NOBODY}, which the kernel also says of everybody it cannot name"
    return ""
