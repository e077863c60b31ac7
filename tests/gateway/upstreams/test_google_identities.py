"""The gateway's three identities at Google, against a server that checks every request it makes.

Each token the stand-in issues is a canary: it may be sent to the API, and nowhere else.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from types import MappingProxyType

import pytest

from gateway.domain.snapshot import ConnectionSpec
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.upstreams import google_credentials
from gateway.upstreams.bigquery_api import BigQueryApi, path_of
from gateway.upstreams.registry import UpstreamFailed
from hoopweb.embedded.bigquery_demo import new_key, public_half
from tests.gateway.upstreams.google_standin import METADATA, StandIn, standing_in

READER = "reader@demo-project.iam.gserviceaccount.com"
TABLES = path_of("projects", "p", "datasets", "d", "tables")
KINDS = ("key", "metadata", "impersonated key", "impersonated machine")


@cache
def key_for(number: int) -> dict[str, str]:
    """Made once: a key takes the processor longer than everything else here."""
    return new_key("")


class Gateway:
    """One connection, whose sealed credential may be exchanged for another."""

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin
        self.rotate()
        self.api = BigQueryApi(self._stored, metadata_url=f"{standin.url}{METADATA}")

    def rotate(self, number: int = 0) -> None:
        self.key = key_for(number) | {"token_uri": f"{self._standin.url}/token"}
        self._standin.keys[self.key["client_email"]] = public_half(self.key)

    async def _stored(self, _: ConnectionSpec) -> dict[str, str]:
        return {"service_account": json.dumps(self.key)}

    def spec(self, kind: str) -> ConnectionSpec:
        settings = {"project": "p", "api_endpoint": self._standin.url}
        if "machine" in kind or kind == "metadata":
            settings["credentials"] = "metadata"
        if kind.startswith("impersonated"):
            settings |= {"impersonate": READER, "iam_endpoint": self._standin.url}
        sealed = self.key["private_key"].encode()
        return ConnectionSpec(name="w", kind="bigquery", settings=MappingProxyType(settings), sealed_credential=sealed)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with standing_in() as running:
        yield running
        assert running.faults == []


@pytest.fixture
async def gateway(standin: StandIn, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Gateway]:
    caplog.set_level(logging.DEBUG)
    opened = Gateway(standin)
    yield opened
    await opened.api.close()
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "canary" not in said
    assert opened.key["private_key"][40:80] not in said


def account(kind: str, gateway: Gateway) -> str:
    return {"key": gateway.key["client_email"], "metadata": "machine"}.get(kind, READER)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_identity_is_asked_for_once_and_used(standin: StandIn, gateway: Gateway, kind: str) -> None:
    for _ in range(3):
        await gateway.api.get(gateway.spec(kind), TABLES)

    tokens = {token for _, _, token in standin.called}
    assert len(standin.called) == 3
    assert tokens == {standin.issued[-1]}
    assert standin.issued[-1].endswith(account(kind, gateway))
    assert len(standin.issued) == (2 if kind.startswith("impersonated") else 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_is_fetched_again_before_it_ends(standin: StandIn, gateway: Gateway, kind: str) -> None:
    standin.life_s = google_credentials.EARLY_S - 1
    await gateway.api.get(gateway.spec(kind), TABLES)
    once = len(standin.issued)
    await gateway.api.get(gateway.spec(kind), TABLES)

    assert len(standin.issued) == 2 * once
    assert standin.called[0][2] != standin.called[1][2]


@pytest.mark.parametrize("life", [float("nan"), float("inf"), "soon", None, [1]])
async def test_a_token_without_an_end_is_none(standin: StandIn, gateway: Gateway, life: object) -> None:
    standin.broken["/token"] = (200, {"access_token": "canary-token", "expires_in": life})

    with pytest.raises(UpstreamFailed, match="no access token"):
        await gateway.api.get(gateway.spec("key"), TABLES)


async def test_a_token_lives_an_hour_at_most(
    standin: StandIn, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.life_s = 10**9
    await gateway.api.get(gateway.spec("key"), TABLES)
    now = time.time()
    monkeypatch.setattr(google_credentials.time, "time", lambda: now + 3600)
    header = await gateway.api._credentials.authorization(gateway.spec("key"))

    assert header == {"Authorization": f"Bearer {standin.issued[1]}"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_refused_in_the_middle_is_replaced(standin: StandIn, gateway: Gateway, kind: str) -> None:
    spec = gateway.spec(kind)
    await gateway.api.get(spec, TABLES)
    standin.valid.clear()

    await gateway.api.get(spec, TABLES)
    standin.valid.clear()
    await gateway.api.post_once(spec, f"{TABLES}/t/insertAll", {"rows": []})

    refused = [token for _, _, token in standin.called]
    assert [method for method, _, _ in standin.called] == ["GET", "GET", "GET", "POST", "POST"]
    assert refused[1] == refused[0] != refused[2] == refused[3] != refused[4]


async def test_a_token_refused_again_is_an_error_that_says_nothing(standin: StandIn, gateway: Gateway) -> None:
    standin.broken[f"/bigquery/v2{TABLES}"] = (401, {"error": {"message": "canary-message"}})

    with pytest.raises(BigQueryError) as caught:
        await gateway.api.get(gateway.spec("key"), TABLES)

    assert "canary" not in str(caught.value.as_json())
    assert len(standin.issued) == 2


async def test_a_rotated_key_ends_the_token_of_the_old_one(standin: StandIn, gateway: Gateway) -> None:
    await gateway.api.get(gateway.spec("key"), TABLES)
    gateway.rotate(1)
    await gateway.api.get(gateway.spec("key"), TABLES)
    await gateway.api.get(gateway.spec("impersonated key"), TABLES)
    await gateway.api.get(gateway.spec("metadata"), TABLES)

    assert len({token for _, _, token in standin.called}) == 4


@pytest.mark.parametrize(
    ("kind", "path", "answer"),
    [
        ("key", "/token", (400, {"error": "invalid_grant", "error_description": "canary-description"})),
        ("key", "/token", (302, {})),
        ("key", "/token", (200, {"id_token": "canary"})),
        ("key", "/token", (200, ["canary"])),
        ("key", "/token", (200, {"access_token": "canary\r\nX-A: b", "expires_in": 60})),
        ("metadata", METADATA, (404, {"canary": 1})),
        ("impersonated key", f"/v1/projects/-/serviceAccounts/{READER}:generateAccessToken", (403, {"a": "canary"})),
        (
            "impersonated machine",
            f"/v1/projects/-/serviceAccounts/{READER}:generateAccessToken",
            (200, {"accessToken": "canary", "expireTime": "canary"}),
        ),
    ],
)
async def test_an_issuer_that_fails_is_not_quoted(
    standin: StandIn, gateway: Gateway, kind: str, path: str, answer: tuple[int, object]
) -> None:
    standin.broken[path] = answer

    with pytest.raises(UpstreamFailed) as caught:
        await gateway.api.get(gateway.spec(kind), TABLES)

    assert "canary" not in caught.value.message
    assert standin.called == []


async def test_what_is_not_the_metadata_server_is_not_believed(standin: StandIn, gateway: Gateway) -> None:
    standin.flavor = "Other"

    with pytest.raises(UpstreamFailed):
        await gateway.api.get(gateway.spec("metadata"), TABLES)

    assert standin.called == []


async def test_the_stand_in_is_strict(standin: StandIn, gateway: Gateway) -> None:
    """The control: a proof by somebody else's key is refused, and said to be."""
    gateway.key = key_for(1) | {"token_uri": f"{standin.url}/token"}

    with pytest.raises(UpstreamFailed, match="status 400"):
        await gateway.api.get(gateway.spec("key"), TABLES)

    assert len(standin.faults) == 1
    standin.faults.clear()
