"""Google Secret Manager and Vault's AppRole, against servers that run and refuse what is not as the vendor says."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from gateway.domain import secret_vault
from gateway.domain.secret_google import SCOPE, crc32c
from gateway.domain.secret_uris import SecretCache, SecretUnavailable, read_secret
from tests.audit.sinks.receivers import TricklingReceiver, running

CANARY = "canary-4711"
URI = "vault://secret/clinic#password"
Answer = tuple[int, dict[str, Any]]


@contextmanager
def serving(answer: Callable[[str, str, Any, bytes], Answer], *, flavor: str = "") -> Iterator[str]:
    """A server at the yielded address that asks `answer(method, path, headers, body)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = answer(method, self.path, self.headers, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            if flavor:
                self.send_header("Metadata-Flavor", flavor)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


# --- Managers that take their time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
@pytest.mark.parametrize("uri", ["vault://secret/clinic#password", "gcp-secret://hospital/clinic"])
def test_manager_that_trickles_keeps_nobody(monkeypatch: pytest.MonkeyPatch, uri: str, head: bytes) -> None:
    monkeypatch.setattr("gateway.domain.secret_http.WHOLE_WITHIN_S", 0.5)
    with running(TricklingReceiver(head=head)) as receiver:
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{receiver.port}")
        monkeypatch.setenv("VAULT_TOKEN", "s.1")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{receiver.port}")
        began = time.monotonic()
        with pytest.raises(SecretUnavailable, match="does not answer"):
            read_secret(uri)

    assert time.monotonic() - began < 5


def test_outage_is_asked_about_once_by_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def slow(*_: Any) -> Answer:
        asked.append(1)
        time.sleep(0.5)
        return 503, {}

    cache = SecretCache()
    with serving(slow) as url, ThreadPoolExecutor(8) as sessions:
        monkeypatch.setenv("VAULT_ADDR", url)
        monkeypatch.setenv("VAULT_TOKEN", "s.1")
        told = [sessions.submit(cache.read, URI) for _ in range(8)]
        problems = {str(each.exception()) for each in told}
        later = sessions.submit(cache.read, URI).exception()

    assert problems == {"vault answered 503, expected 200"}
    assert isinstance(later, SecretUnavailable)
    assert len(asked) == 2  # one for all eight, one for who came afterwards


# --- Google ----------------------------------------------------------------------------------------------------------


class Google:
    """The token address and the Secret Manager in one, with one secret: `hospital/clinic`."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, parameters={"kid": "k1"})
        self.url = ""
        self.status = 200
        self.crc_off_by = 0
        self.text = json.dumps({"password": CANARY, "port": 5432})

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        if (method, path) == ("POST", "/token"):
            return self._token(parse_qs(body.decode()))
        versions = {f"/v1/projects/hospital/secrets/clinic/versions/{version}:access" for version in ("latest", "3")}
        if method != "GET" or path not in versions:
            return 404, {"error": {"status": "NOT_FOUND"}}
        if headers.get("Authorization") != "Bearer ya29.good":
            return 401, {"error": {"status": "UNAUTHENTICATED", "message": CANARY}}
        data = self.text.encode()
        payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(crc32c(data) + self.crc_off_by)}
        return self.status, {"name": path, "payload": payload}

    def _token(self, form: dict[str, list[str]]) -> Answer:
        claims = jwt.decode(form["assertion"][0], self.key, algorithms=["RS256"]).claims
        asked = (form["grant_type"], claims["iss"], claims["scope"], claims["aud"])
        grant = ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        if asked != (grant, "gateway@hospital.example", SCOPE, f"{self.url}/token"):
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "ya29.good", "expires_in": 3599, "token_type": "Bearer"}

    def key_file(self, **changes: str) -> str:
        content = {
            "type": "service_account",
            "client_email": "gateway@hospital.example",
            "private_key_id": "k1",
            "private_key": self.key.as_pem(private=True).decode(),
            "token_uri": f"{self.url}/token",
        }
        return json.dumps(content | changes)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Google]:
    stand_in = Google()
    with serving(stand_in.answer) as stand_in.url:
        (tmp_path / "key.json").write_text(stand_in.key_file())
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", stand_in.url + "/")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        yield stand_in


@pytest.mark.parametrize("place", ["hospital/clinic", "hospital/clinic/latest", "hospital/clinic/3"])
def test_google_gives_a_field_or_the_whole_text(google: Google, place: str) -> None:
    assert read_secret(f"gcp-secret://{place}#password") == CANARY
    assert read_secret(f"gcp-secret://{place}") == google.text


@pytest.mark.parametrize("part", ["port", "gone"])
def test_googles_fields_are_texts(google: Google, part: str) -> None:
    with pytest.raises(SecretUnavailable, match="no such field"):
        read_secret(f"gcp-secret://hospital/clinic#{part}")


def test_google_refusing_is_not_quoted(google: Google) -> None:
    google.status = 403

    with pytest.raises(SecretUnavailable, match="secret manager answered 403") as caught:
        read_secret("gcp-secret://hospital/clinic")
    assert CANARY not in str(caught.value)
    with pytest.raises(SecretUnavailable, match="answered 404"):
        read_secret("gcp-secret://hospital/other")


def test_text_damaged_on_its_way_is_none(google: Google) -> None:
    google.crc_off_by = 1

    with pytest.raises(SecretUnavailable, match="damaged"):
        read_secret("gcp-secret://hospital/clinic")


def test_another_accounts_key_gets_no_token(google: Google, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(google.key_file(client_email="mallory@hospital.example"))

    with pytest.raises(SecretUnavailable, match="token address answered 400"):
        read_secret("gcp-secret://hospital/clinic")


@pytest.mark.parametrize("changes", [{"type": "authorized_user"}, {"token_uri": "http://tokens.example.org/"}])
def test_credentials_that_are_no_key_or_would_go_in_clear_are_refused(
    google: Google, tmp_path: Path, changes: dict[str, str]
) -> None:
    (tmp_path / "key.json").write_text(google.key_file(**changes))

    with pytest.raises(SecretUnavailable, match=r"no service-account key|plaintext"):
        read_secret("gcp-secret://hospital/clinic")


@pytest.mark.parametrize(("flavor", "says"), [("Google", ""), ("", "is none")])
def test_machines_own_account(google: Google, monkeypatch: pytest.MonkeyPatch, flavor: str, says: str) -> None:
    def metadata(method: str, path: str, headers: Any, body: bytes) -> Answer:
        right = path == "/computeMetadata/v1/instance/service-accounts/default/token"
        if not right or headers.get("Metadata-Flavor") != "Google":
            return 403, {}
        return 200, {"access_token": "ya29.good", "expires_in": 100}

    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    with serving(metadata, flavor=flavor) as url:
        monkeypatch.setenv("GCE_METADATA_HOST", url.removeprefix("http://"))
        if says:
            with pytest.raises(SecretUnavailable, match=says):
                read_secret("gcp-secret://hospital/clinic")
        else:
            assert read_secret("gcp-secret://hospital/clinic#password") == CANARY


def test_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of every catalogue of CRCs


# --- Vault's AppRole -------------------------------------------------------------------------------------------------


class Vault:
    def __init__(self) -> None:
        self.logins = 0
        self.lease_s = 3600

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        if headers.get("X-Vault-Request") != "true" or headers.get("X-Vault-Namespace") != "ward":
            return 400, {"errors": ["no request header, or another namespace"]}
        if (method, path) == ("POST", "/v1/auth/gateways/login"):
            if json.loads(body) != {"role_id": "role", "secret_id": "secret-1"}:
                return 400, {"errors": [f"invalid role or secret ID {CANARY}"]}
            self.logins += 1
            return 200, {"auth": {"client_token": f"s.{self.logins}", "lease_duration": self.lease_s}}
        if headers.get("X-Vault-Token") != f"s.{self.logins}" or path != "/v1/secret/data/clinic":
            return 403, {"errors": ["permission denied"]}
        return 200, {"data": {"data": {"password": CANARY}, "metadata": {"version": 1}}}


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Vault]:
    stand_in = Vault()
    (tmp_path / "secret_id").write_text("secret-1\n")
    with serving(stand_in.answer) as url:
        for name in ("VAULT_TOKEN", "VAULT_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "VAULT_ADDR": url,
            "VAULT_NAMESPACE": "ward",
            "VAULT_ROLE_ID": "role",
            "VAULT_SECRET_ID_FILE": str(tmp_path / "secret_id"),
            "VAULT_APPROLE_MOUNT": "gateways",
        }.items():
            monkeypatch.setenv(name, value)
        yield stand_in
    secret_vault._tokens.clear()


def test_login_serves_until_its_lease_ends(vault: Vault) -> None:
    assert [read_secret(URI), read_secret(URI), vault.logins] == [CANARY, CANARY, 1]

    vault.lease_s = 0
    secret_vault._tokens.clear()
    assert [read_secret(URI), read_secret(URI), vault.logins] == [CANARY, CANARY, 3]


def test_token_revoked_before_its_end_is_got_anew_once(vault: Vault) -> None:
    read_secret(URI)
    vault.logins += 1  # what the server knows now is another token

    assert read_secret(URI) == CANARY
    with pytest.raises(SecretUnavailable, match="answered 403"):
        read_secret("vault://secret/other#password")  # what is not permitted stays so: asked once more, not for ever


def test_wrong_secret_is_told_without_a_word_of_it(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "secret_id").write_text("stolen")

    with pytest.raises(SecretUnavailable, match="refused the login: 400") as caught:
        read_secret(URI)
    assert not {CANARY, "stolen"} & set(str(caught.value).split())


def test_token_is_preferred_where_there_is_one(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "s.0")

    assert (read_secret(URI), vault.logins) == (CANARY, 0)
