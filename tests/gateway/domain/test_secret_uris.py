"""Secrets by URI: AWS's against a server that runs, Vault's against one that checks the request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gateway import upstream_secrets
from gateway.domain.credentials import seal_credential
from gateway.domain.secret_uris import SecretCache, SecretUnavailable, read_secret, uri_problem
from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.registry import UpstreamFailed

CANARY = "canary-4711"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield boto3.client("secretsmanager")
    server.stop()


def test_aws_gives_the_whole_text_or_a_field(aws: Any) -> None:
    aws.create_secret(Name="clinic/app", SecretString=json.dumps({"password": CANARY, "port": 5432}))
    aws.create_secret(Name="plain", SecretString="text")

    assert read_secret("aws-secret://clinic/app#password") == CANARY
    assert read_secret("aws-secret://plain") == "text"
    for uri in ("aws-secret://clinic/app#port", "aws-secret://clinic/app#gone", "aws-secret://plain#x"):
        with pytest.raises(SecretUnavailable, match="no such field"):
            read_secret(uri)
    with pytest.raises(SecretUnavailable, match="refused or does not answer"):
        read_secret("aws-secret://gone")


class Vault:
    """Answers GET /v1/MOUNT/data/PATH to who shows the token, as the manual of the key-value engine has it."""

    def __init__(self) -> None:
        self.requests = 0
        self.status = 200
        self.password = CANARY

    def answer(self, path: str, headers: Any) -> tuple[int, dict[str, Any]]:
        self.requests += 1
        if headers.get("X-Vault-Token") != "s.token" or headers.get("X-Vault-Request") != "true":
            return 403, {"errors": ["permission denied"]}
        if path != "/v1/secret/data/hospital/clinic":
            return 404, {"errors": []}
        data = {"password": self.password, "number": 7}
        return self.status, {"data": {"data": data, "metadata": {"version": 2}}}


@contextmanager
def running(vault: Vault) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = vault.answer(self.path, self.headers)
            body = json.dumps(document).encode()
            self.send_response(status)
            if status == 307:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    stand_in = Vault()
    with running(stand_in) as url:
        monkeypatch.setenv("VAULT_ADDR", url)
        monkeypatch.setenv("VAULT_TOKEN", "s.token")
        yield stand_in


URI = "vault://secret/hospital/clinic#password"


def test_vault_gives_a_field(vault: Vault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read_secret(URI) == CANARY
    (tmp_path / "token").write_text("s.token\n")
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(tmp_path / "token"))
    assert read_secret(URI) == CANARY


@pytest.mark.parametrize("status", [307, 403, 404, 500, 503])
def test_vault_that_does_not_give_is_not_followed_nor_quoted(vault: Vault, status: int) -> None:
    vault.status = status

    with pytest.raises(SecretUnavailable, match=f"vault answered {status}") as caught:
        read_secret(URI)

    assert CANARY not in str(caught.value)
    assert vault.requests == 1


@pytest.mark.parametrize("field", ["number", "gone"])
def test_vaults_fields_are_texts(vault: Vault, field: str) -> None:
    with pytest.raises(SecretUnavailable, match="without such a field"):
        read_secret(f"vault://secret/hospital/clinic#{field}")


def test_vault_in_plaintext_is_for_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://vault.example.org")
    monkeypatch.setenv("VAULT_TOKEN", "s.token")

    with pytest.raises(SecretUnavailable, match="not https"):
        read_secret(URI)


@pytest.mark.parametrize(
    "uri",
    [
        *("", "x", "http://h/p", "vault://secret", "vault://secret/p", "vault://secret/../sys#x", "vault:///p#x"),
        *("gcp-secret://p", "gcp-secret:///p/n", "gcp-secret://p/n/1/x", "gcp-secret://p/../n"),
        *("file:rel", "env:", "aws-secret://", "vault://secret//p#x", "aws-secret://" + "x" * 1000),
    ],
)
def test_uri_of_another_form_is_refused_before_anything_is_asked(uri: str) -> None:
    assert uri_problem(uri)
    with pytest.raises(SecretUnavailable):
        read_secret(uri)


def test_what_is_kept_ends(vault: Vault) -> None:
    cache = SecretCache(ttl_s=60)
    assert [cache.read(URI), cache.read(URI), vault.requests] == [CANARY, CANARY, 1]
    vault.password = "rotated"
    cache.ttl_s = 0
    cache._kept.clear()
    assert cache.read(URI) == "rotated"

    vault.status = 503

    with pytest.raises(SecretUnavailable):
        cache.read(URI)  # what was read before is past its time: no secret rather than an old one
    assert CANARY not in repr(cache)


async def test_data_plane_reads_the_password_where_it_lies(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_secrets, "_secrets", SecretCache(ttl_s=0))
    spec = ConnectionSpec(name="c", kind="postgres", sealed_credential=seal_credential({"password_uri": URI}))
    assert await upstream_secrets.upstream_credential(spec) == {"password": CANARY}

    vault.status = 503

    with pytest.raises(UpstreamFailed, match="503"):
        await upstream_secrets.upstream_credential(spec)
