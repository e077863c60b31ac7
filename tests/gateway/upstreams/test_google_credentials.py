"""Where the gateway's own tokens come from, and where they may go."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.bigquery_api import endpoint_of
from gateway.upstreams.google_credentials import GoogleCredentials, account_of
from gateway.upstreams.registry import UpstreamFailed
from hoopweb.embedded.bigquery_demo import new_key, public_half

URI = "https://oauth2.example.org/token"


def spec(**settings: str) -> ConnectionSpec:
    return ConnectionSpec(name="warehouse", kind="bigquery", settings=MappingProxyType(settings))


def credentials(answer: Any, key: Mapping[str, str] | None = None) -> GoogleCredentials:
    async def stored(_: ConnectionSpec) -> dict[str, str]:
        return {"service_account": json.dumps(key)} if key else {}

    return GoogleCredentials(stored, httpx.AsyncClient(transport=httpx.MockTransport(answer)))


async def test_service_account_proves_itself_and_is_asked_once() -> None:
    key, asked = new_key(URI), []

    def answer(request: httpx.Request) -> httpx.Response:
        form = dict(httpx.QueryParams(request.content.decode()))
        asked.append(jwt.decode(form["assertion"], RSAKey.import_key(public_half(key)), algorithms=["RS256"]).claims)
        return httpx.Response(200, json={"access_token": "t1", "expires_in": 3600})

    source = credentials(answer, key)
    headers = [await source.authorization(spec()) for _ in range(2)]

    assert headers == [{"Authorization": "Bearer t1"}] * 2
    assert [(claims["iss"], claims["aud"]) for claims in asked] == [(key["client_email"], URI)]
    assert asked[0]["exp"] <= time.time() + 3600


async def test_impersonation_exchanges_the_token_for_another_accounts() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "oauth2.example.org":
            return httpx.Response(200, json={"access_token": "own", "expires_in": 3600})
        assert request.headers["authorization"] == "Bearer own"
        assert request.url.path.endswith("/reader@p.iam.gserviceaccount.com:generateAccessToken")
        return httpx.Response(200, json={"accessToken": "theirs", "expireTime": "2030-01-01T00:00:00Z"})

    source = credentials(answer, new_key(URI))

    header = await source.authorization(spec(impersonate="reader@p.iam.gserviceaccount.com"))

    assert header == {"Authorization": "Bearer theirs"}


async def test_machines_own_identity() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["metadata-flavor"] == "Google"
        flavor = {"Metadata-Flavor": "Google"}
        return httpx.Response(200, json={"access_token": "m", "expires_in": 3600}, headers=flavor)

    assert await credentials(answer).authorization(spec(credentials="metadata")) == {"Authorization": "Bearer m"}


async def test_a_refused_key_says_nothing_of_itself() -> None:
    source = credentials(lambda _: httpx.Response(400, json={"error": "invalid_grant: canary"}), new_key(URI))

    with pytest.raises(UpstreamFailed) as caught:
        await source.authorization(spec())

    assert caught.value.message == "no access token for the upstream: status 400"


@pytest.mark.parametrize("uri", ["http://oauth2.example.org/token", "ftp://127.0.0.1/token"])
async def test_a_key_is_not_used_over_plaintext(uri: str) -> None:
    source = credentials(lambda _: httpx.Response(200, json={"access_token": "t"}), new_key(uri))

    with pytest.raises(UpstreamFailed, match="plaintext"):
        await source.authorization(spec())


async def test_connection_without_credential_is_refused() -> None:
    with pytest.raises(UpstreamFailed, match="no credential"):
        await credentials(lambda _: httpx.Response(200)).authorization(spec())


def test_anonymous_access_is_for_loopback() -> None:
    assert endpoint_of(spec(credentials="anonymous", api_endpoint="http://127.0.0.1:9050/")).startswith("http://127")
    for settings in ({"credentials": "anonymous"}, {"api_endpoint": "http://bigquery.example.org"}):
        with pytest.raises(UpstreamFailed, match="loopback alone"):
            endpoint_of(spec(**settings))


def test_account_is_named_for_the_record() -> None:
    key = new_key(URI)

    assert account_of({"service_account": json.dumps(key)}, {}) == key["client_email"]
    assert account_of({}, {"credentials": "metadata"}) == "metadata"
    assert account_of({}, {"impersonate": "a@b"}) == "a@b"
