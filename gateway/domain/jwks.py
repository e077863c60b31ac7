"""The public keys of trusted issuers: fetched from the pinned URL, cached, rotated, and failing closed.

Three clocks bound what an outage or a flood of forged tokens can do: keys are renewed after `REFRESH_S`, are not used
past `MAX_AGE_S` (an issuer that cannot be asked cannot be believed for ever), and are asked for at most once every
`RETRY_S` however many unknown key ids arrive.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from dataclasses import dataclass, field

import httpx
from joserfc.jwk import KeySet

from audit.foreign_answers import PLAIN, AnswerRefused, hung_up_after, read_plain
from gateway.domain.public_keys import KeysUnavailable, public_keys
from gateway.domain.snapshot import IssuerSpec

__all__ = ["JwksCache", "KeysUnavailable", "fetch_key_set", "public_keys"]

logger = logging.getLogger(__name__)

REFRESH_S = 300.0
MAX_AGE_S = 900.0
RETRY_S = 5.0
TIMEOUT_S = 3.0
WHOLE_WITHIN_S = 10.0
MAX_BYTES = 256 * 1024  # real sets are below 20 KiB


@dataclass(slots=True)
class _Cached:
    keys: KeySet | None = None
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


class JwksCache:
    """Keys by `jwks_uri`, shared by the threads of a process. `fetching` methods block on the network."""

    def __init__(self, *, refresh_s: float = REFRESH_S, max_age_s: float = MAX_AGE_S, retry_s: float = RETRY_S) -> None:
        self._refresh_s = refresh_s
        self._max_age_s = max_age_s
        self._retry_s = retry_s
        self._cached: dict[str, _Cached] = {}
        self._guard = threading.Lock()

    def keys(self, spec: IssuerSpec) -> KeySet:
        """The cached keys, never from the network. Raises KeysUnavailable when there are none young enough."""
        cached = self._slot(spec)
        if cached.keys is None or time.monotonic() - cached.fetched_at > self._max_age_s:
            raise KeysUnavailable("no current keys of this issuer")
        return cached.keys

    def needs_fetching(self, spec: IssuerSpec, kid: str | None) -> bool:
        """Whether a fetch is due and allowed now: none yet, too old, or `kid` is not among the cached keys."""
        cached, now = self._slot(spec), time.monotonic()
        if now - cached.tried_at < self._retry_s:
            return False
        if cached.keys is None or now - cached.fetched_at > self._refresh_s:
            return True
        return kid is not None and kid not in {key.kid for key in cached.keys.keys}

    def fetch(self, spec: IssuerSpec) -> None:
        """Renew the keys. A failure leaves the old ones to their maximum age; callers ask `keys` afterwards."""
        cached = self._slot(spec)
        with cached.lock:
            now = time.monotonic()
            if now - cached.tried_at < self._retry_s:
                return  # another thread just did
            cached.tried_at = now
            try:
                cached.keys = fetch_key_set(spec.jwks_uri)
            except KeysUnavailable as problem:
                logger.warning("issuer keys not renewed: issuer=%s error=%s", spec.issuer, problem)
            else:
                cached.fetched_at = now

    def _slot(self, spec: IssuerSpec) -> _Cached:
        with self._guard:
            return self._cached.setdefault(spec.jwks_uri, _Cached())


def fetch_key_set(url: str) -> KeySet:
    """GET a JWK set: no redirects (the URL is pinned), bounded in time and size."""
    _refuse_never_reached(url)
    try:
        with (
            hung_up_after(WHOLE_WITHIN_S) as extensions,
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, headers=PLAIN) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}, extensions=extensions) as response,
        ):
            if response.status_code != 200:
                raise KeysUnavailable(f"status {response.status_code}, expected 200")
            body = read_plain(response, max_bytes=MAX_BYTES, within_s=WHOLE_WITHIN_S)
    except AnswerRefused as refused:
        raise KeysUnavailable(str(refused)) from refused
    except httpx.HTTPError as error:
        raise KeysUnavailable(type(error).__name__) from error
    return public_keys(body)


def _refuse_never_reached(url: str) -> None:
    """No issuer lives where clouds keep a machine's own credentials (CWE-918); in plaintext, only on this machine.

    Inner networks are let pass: a hospital's own identity provider is there, and an administrator pinned the address.
    """
    try:
        parts = httpx.URL(url)
        found = socket.getaddrinfo(parts.host, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, httpx.InvalidURL) as error:
        raise KeysUnavailable(f"the name does not resolve ({type(error).__name__})") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if any(address.is_link_local or address.is_multicast or address.is_unspecified for address in addresses):
        raise KeysUnavailable("the address is of a kind no issuer has")
    if parts.scheme != "https" and not all(address.is_loopback for address in addresses):
        raise KeysUnavailable("plain http leaves this machine, expected https")
