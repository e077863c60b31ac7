"""Access tokens for Google APIs: from a service-account key, from the machine's metadata server, or none.

- A key: a signed JWT for a token at the key's own `token_uri` (RFC 7523 §2.1; Google's "service account" flow).
- The metadata server: workload identity of the machine or pod the gateway runs on.
- `impersonate`: either of them exchanged at the IAM Credentials API for a token of another account.

Tokens are kept until shortly before they end, never logged, never handed to a client, and sent over TLS or loopback
only. Fetching one is serialised per connection. What an issuer says of a token's life is believed where it is shorter
than an hour, and a changed key or account ends the token of the one before.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from audit.foreign_answers import read_plain_async
from gateway.domain.addresses import is_loopback
from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.registry import UpstreamFailed

SCOPE = "https://www.googleapis.com/auth/bigquery"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_S = 3600  # the longest Google accepts
EARLY_S = 120  # fetched again this long before the end
DEFAULT_LIFE_S = 3600
MAX_ANSWER_BYTES = 256 * 1024
WHOLE_WITHIN_S = 60.0
METADATA_URL = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
IAM_URL = "https://iamcredentials.googleapis.com"
_FLAVOR = {"Metadata-Flavor": "Google"}  # asked with and answered with: nothing else on that address is taken for it
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")

# What a token was made of: the sealed credential, its kind, the account it stands for.
_Source = tuple[bytes, str, str]
UpstreamCredential = Callable[[ConnectionSpec], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class AccessToken:
    text: str = field(repr=False)
    until: float  # Unix seconds


class GoogleCredentials:
    """Bearer tokens by connection. One per process."""

    def __init__(
        self,
        upstream_credential: UpstreamCredential,
        client: httpx.AsyncClient,
        *,
        metadata_url: str = METADATA_URL,
    ) -> None:
        self._upstream_credential = upstream_credential
        self._client = client
        self._metadata_url = metadata_url
        self._tokens: dict[str, tuple[_Source, AccessToken]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def authorization(self, spec: ConnectionSpec) -> dict[str, str]:
        """The header of an upstream request; empty for an emulator. Raises UpstreamFailed without any secret in it."""
        if spec.settings.get("credentials") == "anonymous":
            return {}
        source = (spec.sealed_credential, spec.settings.get("credentials", ""), spec.settings.get("impersonate", ""))
        async with self._locks.setdefault(spec.name, asyncio.Lock()):
            kept, token = self._tokens.get(spec.name, (source, None))
            if token is None or kept != source or token.until - EARLY_S < time.time():
                token = await self._fetch(spec)
                self._tokens[spec.name] = (source, token)
        return {"Authorization": f"Bearer {token.text}"}

    def forget(self, spec: ConnectionSpec, refused: Mapping[str, str]) -> None:
        """The service refused this header's token: fetch another one, unless that has happened meanwhile."""
        _, token = self._tokens.get(spec.name, (None, None))
        if token is not None and refused.get("Authorization") == f"Bearer {token.text}":
            del self._tokens[spec.name]

    async def _fetch(self, spec: ConnectionSpec) -> AccessToken:
        try:
            token = await self._own_token(spec)
            account = spec.settings.get("impersonate")
            return token if not account else await self._impersonate(spec, account, token)
        except (httpx.HTTPError, TimeoutError, JoseError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UpstreamFailed(
                f"no access token for the upstream: {type(error).__name__}", sqlstate="28000"
            ) from None

    async def _own_token(self, spec: ConnectionSpec) -> AccessToken:
        if spec.settings.get("credentials") == "metadata":
            return await self._ask("GET", self._metadata_url, headers=_FLAVOR, answered_with=_FLAVOR)
        text = (await self._upstream_credential(spec)).get("service_account", "")
        if not text:
            raise UpstreamFailed("the connection has no credential", sqlstate="28000")
        key = json.loads(text)
        uri = _secure(str(key["token_uri"]))
        return await self._ask("POST", uri, data={"grant_type": JWT_BEARER, "assertion": signed_assertion(key)})

    async def _impersonate(self, spec: ConnectionSpec, account: str, token: AccessToken) -> AccessToken:
        base = _secure(spec.settings.get("iam_endpoint", IAM_URL))
        answer = await self._json(
            "POST",
            f"{base}/v1/projects/-/serviceAccounts/{quote(account, safe='@')}:generateAccessToken",
            headers={"Authorization": f"Bearer {token.text}"},
            json={"scope": [SCOPE], "lifetime": f"{DEFAULT_LIFE_S}s"},
        )
        ends = datetime.fromisoformat(str(answer["expireTime"]))
        return _token(answer["accessToken"], ends.timestamp() - time.time())

    async def _ask(self, method: str, url: str, **options: Any) -> AccessToken:
        answer = await self._json(method, url, **options)
        return _token(answer["access_token"], float(answer.get("expires_in", DEFAULT_LIFE_S)))

    async def _json(
        self, method: str, url: str, *, answered_with: Mapping[str, str] | None = None, **options: Any
    ) -> dict[str, Any]:
        async with asyncio.timeout(WHOLE_WITHIN_S), self._client.stream(method, url, **options) as response:
            body = await read_plain_async(response, max_bytes=MAX_ANSWER_BYTES)
        if response.status_code != httpx.codes.OK:
            raise UpstreamFailed(f"no access token for the upstream: status {response.status_code}", sqlstate="28000")
        if any(response.headers.get(name) != value for name, value in (answered_with or {}).items()):
            raise ValueError("not answered by whom it was asked of")
        answer = json.loads(body)
        if not isinstance(answer, dict):
            raise ValueError("not an object")
        return answer


def _token(text: Any, life_s: float) -> AccessToken:
    """Raises ValueError for what is no token, or has no end."""
    if not isinstance(text, str) or not _TOKEN.fullmatch(text) or not math.isfinite(life_s):
        raise ValueError("not a token")
    return AccessToken(text, time.time() + min(life_s, DEFAULT_LIFE_S))


def signed_assertion(key: Mapping[str, Any]) -> str:
    """The JWT a service account proves itself with (RFC 7523 §3)."""
    now = int(time.time())
    claims = {
        "iss": str(key["client_email"]),
        "scope": SCOPE,
        "aud": str(key["token_uri"]),
        "iat": now,
        "exp": now + ASSERTION_S,
    }
    header = {"alg": "RS256", "typ": "JWT", "kid": str(key.get("private_key_id", ""))}
    return jwt.encode(header, claims, RSAKey.import_key(str(key["private_key"])), algorithms=["RS256"])


def account_of(credential: Mapping[str, str], settings: Mapping[str, str]) -> str:
    """Who the gateway is at the service, for the record: an account's address, `metadata` or `anonymous`."""
    if settings.get("impersonate"):
        return settings["impersonate"]
    try:
        return str(json.loads(credential["service_account"])["client_email"])
    except (KeyError, ValueError, TypeError):
        return settings.get("credentials", "")


def _secure(url: str) -> str:
    """The URL, when what is sent there cannot be read on the way."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise UpstreamFailed("a credential would cross a plaintext network, expected https://", sqlstate="28000")
    return url.rstrip("/")
