"""Which connections lead to the same data: what is written over one is read over the others.

By what they say of themselves, nobody is asked. A database behind two addresses (a replica, a pooler's other name) is
two here.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.domain.addresses import BIGQUERY_SERVICE, is_loopback
from gateway.domain.snapshot import ConnectionSpec
from gateway.domain.sockets import DEFAULT_PORT, is_socket


def beside(connection: ConnectionSpec, connections: Mapping[str, ConnectionSpec]) -> tuple[str, ...]:
    """The names of the others, switched off or not: who may use them, and when, is no matter of what lies there."""
    return tuple(
        sorted(
            name
            for name, other in connections.items()
            if name != connection.name and other.kind == connection.kind and _is_same(connection, other)
        )
    )


def _is_same(first: ConnectionSpec, second: ConnectionSpec) -> bool:
    if first.kind == "bigquery":
        return _service(first) == _service(second)
    ports = (first.port or DEFAULT_PORT, second.port or DEFAULT_PORT)
    return first.database == second.database and ports[0] == ports[1] and _is_same_host(first.host, second.host)


def _service(spec: ConnectionSpec) -> tuple[str, str, str, int | None, str]:
    address = urlsplit(spec.settings.get("api_endpoint") or BIGQUERY_SERVICE)
    host = (address.hostname or "").rstrip(".")
    port = address.port or {"https": 443, "http": 80}.get(address.scheme)
    return spec.settings.get("project", ""), address.scheme, host, port, address.path.rstrip("/")


def _is_same_host(first: str, second: str) -> bool:
    """A socket and a port of this machine may be one server's; two sockets' directories are two servers'."""
    if is_socket(first) and is_socket(second):
        return first.rstrip("/") == second.rstrip("/")
    if _is_here(first) and _is_here(second):
        return True
    return first.lower().rstrip(".") == second.lower().rstrip(".")


def _is_here(host: str) -> bool:
    return is_socket(host) or is_loopback(host.lower().rstrip("."))
