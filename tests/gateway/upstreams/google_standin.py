"""Google's token issuers and API as the gateway meets them, on one loopback port, strict about every request.

    POST /token                                           a service account proves itself (RFC 7523)
    GET  /computeMetadata/v1/…/default/token              the machine's own identity
    POST /v1/projects/-/serviceAccounts/<a>:generateAccessToken
    *    /bigquery/v2/…                                    needs the newest token of the account `expected`

What is not asked exactly as the services document it is 400, and is kept in `faults`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/bigquery"
METADATA = "/computeMetadata/v1/instance/service-accounts/default/token"
IMPERSONATED = "/v1/projects/-/serviceAccounts/"


@dataclass(slots=True)
class StandIn:
    """`keys` are public keys by the account that proves itself with them."""

    keys: dict[str, str] = field(default_factory=dict)
    url: str = ""
    life_s: float = 3600
    broken: dict[str, tuple[int, Any]] = field(default_factory=dict)  # path → what to answer instead
    flavor: str = "Google"
    issued: list[str] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    called: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, token of API calls
    faults: list[str] = field(default_factory=list)

    def issue(self, account: str) -> str:
        token = f"canary-token-{len(self.issued)}-{account}"
        self.issued.append(token)
        self.valid.add(token)
        return token

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        status, found = self.broken.get(path, (0, None))
        if status:
            return status, found, {"Metadata-Flavor": self.flavor}
        try:
            if path.startswith("/bigquery/v2/"):
                return self._api(method, path, headers, body)
            if path == METADATA:
                return 200, self._metadata(method, headers), {"Metadata-Flavor": self.flavor}
            if path.startswith(IMPERSONATED):
                return 200, self._impersonated(method, path, headers, body), {}
            return 200, self._proved(method, path, headers, body), {}
        except (AssertionError, JoseError, KeyError, ValueError) as fault:
            self.faults.append(f"{method} {path}: {type(fault).__name__} {fault}")
            return 400, {"error": "invalid_grant", "error_description": "canary-description"}, {}

    def _proved(self, method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        assert (method, path) == ("POST", "/token")
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        assert "authorization" not in headers
        form = parse_qs(body.decode(), strict_parsing=True)
        assert form.keys() == {"grant_type", "assertion"}
        assert form["grant_type"] == [JWT_BEARER]
        account = json.loads(jwt_part(form["assertion"][0]))["iss"]
        token = jwt.decode(form["assertion"][0], RSAKey.import_key(self.keys[account]), algorithms=["RS256"])
        assert token.header["typ"] == "JWT"
        assert token.header["kid"]
        claims, now = token.claims, time.time()
        assert claims.keys() == {"iss", "scope", "aud", "iat", "exp"}
        assert claims["aud"] == f"{self.url}/token"
        assert claims["scope"] == SCOPE
        assert now - 60 < claims["iat"] <= now < claims["exp"] <= claims["iat"] + 3600
        return {"access_token": self.issue(account), "expires_in": self.life_s, "token_type": "Bearer"}

    def _metadata(self, method: str, headers: dict[str, str]) -> dict[str, Any]:
        assert method == "GET"
        assert headers["metadata-flavor"] == "Google"
        assert not {"authorization", "x-forwarded-for", "cookie"} & headers.keys()
        return {"access_token": self.issue("machine"), "expires_in": self.life_s, "token_type": "Bearer"}

    def _impersonated(self, method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        account, _, verb = unquote(path.removeprefix(IMPERSONATED)).rpartition(":")
        assert (method, verb) == ("POST", "generateAccessToken")
        assert "/" not in account
        assert headers["authorization"].removeprefix("Bearer ") in self.valid
        assert json.loads(body) == {"scope": [SCOPE], "lifetime": "3600s"}
        ends = datetime.now(UTC) + timedelta(seconds=self.life_s)
        return {"accessToken": self.issue(account), "expireTime": ends.isoformat().replace("+00:00", "Z")}

    def _api(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        self.called.append((method, path, token))
        if token not in self.valid:
            return 401, {"error": {"code": 401, "message": "canary-message", "errors": [{"reason": "authError"}]}}, {}
        return 200, {"kind": "bigquery#anything", "bytes": len(body)}, {}


def jwt_part(token: str) -> bytes:
    import base64

    payload = token.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


@contextlib.contextmanager
def standing_in() -> Iterator[StandIn]:
    standin = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, found, more = standin.answer(self.command, self.path.partition("?")[0], headers, body)
            content = json.dumps(found).encode()
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = reply

        def log_message(self, *_: Any) -> None:
            """Nothing on the tests' own output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        standin.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield standin
        server.shutdown()
