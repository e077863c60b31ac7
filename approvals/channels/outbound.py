"""The one door outwards: a POST to an address an administrator typed, which must not reach what only we can reach.

Server-side request forgery (CWE-918) is kept out by resolving the name once, refusing every address that is not global
unless its network is named in HOOPWEB_CHANNEL_NETWORKS, and connecting to the very address that was checked, with the
name kept for TLS and the Host header: a second answer of the name server changes nothing. Only HTTPS, except to
loopback where loopback is named. Redirects are never followed, proxies of the environment never used, answers never
read.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx
from django.conf import settings

from audit.foreign_answers import hung_up_after
from audit.sinks.targets import Address, TargetProblem, allowed, parse_networks

CONNECT_TIMEOUT_S, TIMEOUT_S, WHOLE_WITHIN_S = 5.0, 10.0, 20.0


class NotPermitted(Exception):
    """The address may not be reached; the sentence names the rule, never the secret parts of the address."""


class NotReached(Exception):
    """Nobody answered, or not as HTTP does."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address that was checked: `pinned` is what is connected to, `host` what is spoken of."""

    url: SplitResult
    host: str
    port: int
    pinned: Address


def post(url: str, *, body: bytes, headers: Mapping[str, str]) -> int:
    """POST and return the status. Raises NotPermitted (trying again is no use as it stands) or NotReached."""
    target = checked_target(url)
    try:
        with (
            hung_up_after(WHOLE_WITHIN_S) as hanging_up,
            httpx.Client(
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                verify=_trust() if target.url.scheme == "https" else False,
            ) as client,
        ):
            request = client.build_request(
                "POST",
                _pinned_url(target),
                content=body,
                headers={**headers, "Host": _host_header(target), "User-Agent": "hoopweb"},
                extensions=hanging_up | {"sni_hostname": target.host},
            )
            response = client.send(request, stream=True)
            response.close()  # what they say back is nobody's business
            return response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
        raise NotReached(type(error).__name__) from None


def checked_target(url: str) -> Target:
    """Resolve and check an address. Raises NotPermitted or NotReached."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise NotPermitted("the port is not a number") from None
    if parts.scheme not in ("https", "http") or not host:
        raise NotPermitted("expected an https address")
    if parts.username or parts.password:
        raise NotPermitted("the address holds a user name, expected none")
    addresses = _resolved(host, port)
    for address in addresses:
        _must_be_permitted(address)
    if parts.scheme == "http" and not all(address.is_loopback for address in addresses):
        raise NotPermitted("plain http leaves this machine, expected https")
    return Target(parts, host, port, addresses[0])


def _resolved(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotReached(f"the name does not resolve ({type(error).__name__})") from None
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _must_be_permitted(address: Address) -> None:
    try:
        networks = parse_networks(settings.HOOPWEB_CHANNEL_NETWORKS)
    except TargetProblem:
        raise NotPermitted("HOOPWEB_CHANNEL_NETWORKS holds something that is no network such as 10.0.0.0/8") from None
    if not allowed(address, networks):
        raise NotPermitted("the address is not a public one, and its network is not in HOOPWEB_CHANNEL_NETWORKS")


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.HOOPWEB_CHANNEL_CA_FILE or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _pinned_url(target: Target) -> httpx.URL:
    literal = f"[{target.pinned}]" if target.pinned.version == 6 else str(target.pinned)
    path = target.url.path or "/"
    query = f"?{target.url.query}" if target.url.query else ""
    return httpx.URL(f"{target.url.scheme}://{literal}:{target.port}{path}{query}")


def _host_header(target: Target) -> str:
    name = f"[{target.host}]" if ":" in target.host else target.host
    return name if target.port in (80, 443) else f"{name}:{target.port}"
