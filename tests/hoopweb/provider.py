"""An OpenID provider as a real little HTTP server: it redeems codes and signs ID tokens with a test's claims."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.test import Client
from joserfc import jwt
from joserfc.jwk import RSAKey


class Provider:
    def __init__(self, url: str) -> None:
        self.url = url
        self.key = RSAKey.generate_key(2048, parameters={"kid": "p1", "use": "sig", "alg": "RS256"})
        self.claims: dict[str, Any] = {}
        self.nonce = ""
        self.asked: dict[str, list[str]] = {}

    def configure(self, settings: Any) -> None:
        settings.HOOPWEB_OIDC_EMBEDDED = False
        settings.OIDC_OP_ISSUER = self.url
        settings.OIDC_OP_AUTHORIZATION_ENDPOINT = f"{self.url}/authorize"
        settings.OIDC_OP_TOKEN_ENDPOINT = f"{self.url}/token"
        settings.OIDC_OP_JWKS_ENDPOINT = f"{self.url}/jwks"

    def id_token(self, client_id: str) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": client_id, "iat": now, "exp": now + 300, "nonce": self.nonce, **self.claims}
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": "p1"}, kept, self.key)

    def sign_in(self, client: Client, path: str = "/oidc/authenticate/", **claims: Any) -> Any:
        """Walk the browser's way: to the provider, and back with a code."""
        self.claims = {"sub": "00u1", "preferred_username": "ada", **claims}
        away = client.get(path)
        self.asked = parse_qs(urlsplit(away["Location"]).query)
        self.nonce = self.asked["nonce"][0]
        return client.get("/oidc/callback/", {"code": "c", "state": self.asked["state"][0]})


@contextmanager
def running_provider(client_id: str) -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"keys": [provider.key.as_dict(private=False)]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer({"access_token": "unused", "token_type": "Bearer", "id_token": provider.id_token(client_id)})

        def _answer(self, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
