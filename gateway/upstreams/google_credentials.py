"""Access tokens for Google APIs: from a service-account key, from the machine's metadata server, or none.

- A key: a signed JWT for a token at the key's own `token_uri` (RFC 7523 §2.1; Google's "service account" flow).
- The metadata server: workload identity of the machine or pod the gateway runs on.
- `impersonate`: either of them exchanged at the IAM Credentials API for a token of another account.

Tokens are kept until shortly before they end, never logged, never handed to a client, and sent over TLS or loopback
only. Fetching one is serialised per connection.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from gateway.domain.snapshot import ConnectionSpec
from gateway.models import is_loopback
from gateway.upstreams.registry import UpstreamFailed

SCOPE = "https://www.googleapis.com/auth/bigquery"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_S = 3600  # the longest Google accepts
EARLY_S = 120  # fetched again this long before the end
DEFAULT_LIFE_S = 3600
METADATA_URL = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
IAM_URL = "https://iamcredentials.googleapis.com"

UpstreamCredential = Callable[[ConnectionSpec], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class AccessToken:
    text: str = field(repr=False)
    until: float  # Unix seconds


class GoogleCredentials:
    """Bearer tokens by connection. One per process."""

    def __init__(self, upstream_credential: UpstreamCredential, client: httpx.AsyncClient) -> None:
        self._upstream_credential = upstream_credential
        self._client = client
        self._tokens: dict[tuple[str, bytes, str], AccessToken] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def authorization(self, spec: ConnectionSpec) -> dict[str, str]:
        """The header of an upstream request; empty for an emulator. Raises UpstreamFailed without any secret in it."""
        if spec.settings.get("credentials") == "anonymous":
            return {}
        key = (spec.name, spec.sealed_credential, spec.settings.get("impersonate", ""))
        async with self._locks.setdefault(spec.name, asyncio.Lock()):
            token = self._tokens.get(key)
            if token is None or token.until - EARLY_S < time.time():
                token = self._tokens[key] = await self._fetch(spec)
        return {"Authorization": f"Bearer {token.text}"}

    def forget(self, spec: ConnectionSpec) -> None:
        """The service refused the token: fetch another one before the next request."""
        for key in [key for key in self._tokens if key[0] == spec.name]:
            del self._tokens[key]

    async def _fetch(self, spec: ConnectionSpec) -> AccessToken:
        try:
            token = await self._own_token(spec)
            account = spec.settings.get("impersonate")
            return token if not account else await self._impersonate(spec, account, token)
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
            raise UpstreamFailed(
                f"no access token for the upstream: {type(error).__name__}", sqlstate="28000"
            ) from None

    async def _own_token(self, spec: ConnectionSpec) -> AccessToken:
        if spec.settings.get("credentials") == "metadata":
            return await self._ask("GET", METADATA_URL, headers={"Metadata-Flavor": "Google"})
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
            f"{base}/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
            headers={"Authorization": f"Bearer {token.text}"},
            json={"scope": [SCOPE]},
        )
        # `expireTime` is RFC 3339; the life asked for is the default of an hour, so the clock here will do.
        return AccessToken(str(answer["accessToken"]), time.time() + DEFAULT_LIFE_S)

    async def _ask(self, method: str, url: str, **options: Any) -> AccessToken:
        answer = await self._json(method, url, **options)
        return AccessToken(str(answer["access_token"]), time.time() + float(answer.get("expires_in", DEFAULT_LIFE_S)))

    async def _json(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        response = await self._client.request(method, url, **options)
        if response.status_code != httpx.codes.OK:
            raise UpstreamFailed(f"no access token for the upstream: status {response.status_code}", sqlstate="28000")
        answer = response.json()
        if not isinstance(answer, dict):
            raise ValueError("not an object")
        return answer


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
