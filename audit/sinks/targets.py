"""Where a sink or an anchor may connect to: checked names, resolved once, and connected by address.

A URL in configuration must not become a way into the operator's own network (CWE-918). So a name is resolved here,
every address is judged, and the connection goes to the judged address: a name that resolves differently a moment later
changes nothing. Public addresses are allowed; private and loopback ones only inside `HOOPWEB_SINK_NETWORKS`;
link-local ones (where clouds serve credentials), multicast and unspecified ones never. Nobody follows redirects.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SCHEMES = {"https": "http", "http": "http", "syslog+tls": "syslog", "syslog+tcp": "syslog", "file": "file"}
_PORTS = {"https": 443, "http": 80, "syslog+tls": 6514, "syslog+tcp": 514}
_PLAINTEXT = frozenset({"http", "syslog+tcp"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Local-use NAT64 (RFC 8215), Teredo, and the metadata service of EC2, which is unique-local and not link-local.
_NEVER = [ipaddress.ip_network(text) for text in ("64:ff9b:1::/48", "2001::/32", "fd00:ec2::/32")]
_FILE = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class TargetProblem(ValueError):
    """The target is malformed or not allowed. Says what was expected; the message names no address."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL. `transport` is http, syslog or file; of a file only `path`, its bare name, is set."""

    transport: str
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    query: str = ""

    @property
    def tls(self) -> bool:
        return self.scheme not in _PLAINTEXT

    @property
    def authority(self) -> str:
        """For the Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Raises TargetProblem. Resolves nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetProblem("is not a URL") from None
    transport = _SCHEMES.get(parts.scheme)
    if transport is None:
        raise TargetProblem(f"expected a URL that begins with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    if parts.username or parts.password:
        raise TargetProblem("a user or password in the URL would be shown: give it as the secret")
    if parts.fragment:
        raise TargetProblem("a fragment means nothing here")
    if transport == "file":
        return _file_target(parts)
    if not parts.hostname:
        raise TargetProblem("names no host")
    return Target(transport, parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path or "/", parts.query)


def _file_target(parts: SplitResult) -> Target:
    name = parts.path.removeprefix("/")
    if parts.netloc or not _FILE.match(name):
        raise TargetProblem("expected file:///NAME, a bare name below HOOPWEB_SINK_DIR")
    return Target("file", "file", path=name)


def resolve(target: Target, *, networks: Sequence[Network]) -> str:
    """Return the one address to connect to. Raises TargetProblem when any address of the name is not allowed.

    Plaintext goes to loopback alone, whatever `networks` says: evidence does not cross a network in clear.
    """
    addresses = _addresses(target)
    for address in addresses:
        if not allowed(address, networks):
            raise TargetProblem("the address is not public, nor in HOOPWEB_SINK_NETWORKS")
        if not target.tls and not address.is_loopback:
            raise TargetProblem("without TLS a sink may only be on this machine")
    return str(addresses[0])


def allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Whether anything may be sent to this address."""
    inner = _embedded(address)
    if inner is not None:
        return allowed(inner, networks)
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    # Old ways of writing inner addresses (IPv4-compatible, SIIT, fec0::/10) pass for global ones.
    if address.is_global and not (address.is_reserved or getattr(address, "is_site_local", False)):
        return True
    return any(address in network for network in networks if network.version == address.version)


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address an IPv6 one leads to: mapped, 6to4, or through NAT64 (RFC 6052)."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address.sixtofour


def parse_networks(texts: Sequence[str]) -> list[Network]:
    """Raises TargetProblem."""
    try:
        return [ipaddress.ip_network(text) for text in texts]
    except ValueError:
        raise TargetProblem("HOOPWEB_SINK_NETWORKS holds something that is no network such as 10.0.0.0/8") from None


def _addresses(target: Target) -> list[Address]:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise TargetProblem("the host's name cannot be resolved") from None
    # A scope id belongs to link-local addresses, which are refused in any case.
    addresses = dict.fromkeys(ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found)
    if not addresses:
        raise TargetProblem("the host's name has no address")
    return list(addresses)
