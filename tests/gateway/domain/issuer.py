"""A trusted issuer as a real little HTTP server: keys it may rotate, break or withhold, and tokens it may forge."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

from gateway.domain.snapshot import IssuerSpec


class TestIssuer:
    __test__ = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys = [RSAKey.generate_key(2048, parameters={"kid": "first", "use": "sig"})]
        self.status = 200
        self.requests = 0

    @property
    def spec(self) -> IssuerSpec:
        return IssuerSpec(
            issuer=self.url, jwks_uri=f"{self.url}/jwks", audience="hoopweb", algorithms=("RS256",), kind="agent"
        )

    def body(self) -> bytes:
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()

    def rotate(self, kid: str) -> None:
        self.keys = [RSAKey.generate_key(2048, parameters={"kid": kid, "use": "sig"})]

    def token(self, *, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        now = int(time.time())
        payload = {
            "iss": self.url,
            "aud": "hoopweb",
            "sub": "workload-1",
            "iat": now,
            "exp": now + 300,
            "jti": "t1",
            "groups": ["ai-agents"],
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        full = {"alg": "RS256", "kid": self.keys[0].kid, **(header or {})}
        return jwt.encode(full, payload, key or self.keys[0], algorithms=["RS256"])

    def token_signed_with_public_key(self) -> str:
        """The classic confusion: HS256 with the public key's PEM as the shared secret. By hand: libraries refuse."""
        header = {"alg": "HS256", "kid": self.keys[0].kid}
        signed = f"{_part(header)}.{self.token().split('.')[1]}"
        secret = self.keys[0].as_pem(private=False)
        signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256")).rstrip(b"=").decode()
        return f"{signed}.{signature}"


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@contextmanager
def running_issuer() -> Iterator[TestIssuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.requests += 1
            body = issuer.body() if issuer.status == 200 else b"broken"
            self.send_response(issuer.status)
            if issuer.status in {301, 302}:
                self.send_header("Location", f"{issuer.url}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = TestIssuer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
