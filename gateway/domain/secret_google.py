"""Google Secret Manager: `projects.secrets.versions.access` of its REST API, version 1.

The process proves itself with the service-account key that GOOGLE_APPLICATION_CREDENTIALS names, by a signed assertion
(RFC 7523 §2.1), else as the machine's or pod's own account by the metadata server (GCE_METADATA_HOST).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from gateway.domain.addresses import is_loopback
from gateway.domain.secret_http import Answer, Asking, asking

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ENDPOINT = "https://secretmanager.googleapis.com"
METADATA_HOST = "metadata.google.internal"
METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
ASSERTION_S = 600


class GoogleRefused(Exception):
    """A sentence about what did not work; never what was sent or answered."""


def access_secret(*, project: str, name: str, version: str, timeout_s: float) -> str:
    """The text of one version. Raises GoogleRefused."""
    endpoint = _secure(os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER") or ENDPOINT)
    place = f"projects/{quote(project, safe='')}/secrets/{quote(name, safe='')}/versions/{quote(version, safe='')}"
    try:
        with asking(timeout_s=timeout_s) as google:
            headers = {"Authorization": f"Bearer {_token(google)}"}
            answer = google.get(f"{endpoint}/v1/{place}:access", headers=headers)
            return _text(_json_of(answer, "secret manager"))
    except httpx.HTTPError as error:
        raise GoogleRefused(f"secret manager does not answer: {type(error).__name__}") from None


def _text(answer: Mapping[str, Any]) -> str:
    try:
        payload = answer["payload"]
        data = base64.b64decode(payload["data"], validate=True)
        if "dataCrc32c" in payload and int(payload["dataCrc32c"]) != crc32c(data):
            raise GoogleRefused("the secret was damaged on its way (CRC32C)")
        return data.decode()
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise GoogleRefused("secret manager answered without a text") from None


def _token(google: Asking) -> str:
    path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    answer = _by_key(google, path) if path else _by_metadata(google)
    token = answer.get("access_token")
    if not isinstance(token, str) or not token:
        raise GoogleRefused("no access token was given")
    return token


def _by_key(google: Asking, path: str) -> dict[str, Any]:
    try:
        key = json.loads(Path(path).read_text(encoding="utf-8"))
        if key["type"] != "service_account":
            raise GoogleRefused("GOOGLE_APPLICATION_CREDENTIALS names no service-account key")
        uri, now = _secure(str(key["token_uri"])), int(time.time())
        claims = {"iss": key["client_email"], "scope": SCOPE, "aud": uri, "iat": now, "exp": now + ASSERTION_S}
        header = {"alg": "RS256", "typ": "JWT", "kid": str(key.get("private_key_id", ""))}
        assertion = jwt.encode(header, claims, RSAKey.import_key(str(key["private_key"])), algorithms=["RS256"])
    except (OSError, ValueError, KeyError, TypeError, JoseError) as error:
        raise GoogleRefused(f"the service-account key cannot be used: {type(error).__name__}") from None
    return _json_of(google.post(uri, data={"grant_type": JWT_BEARER, "assertion": assertion}), "the token address")


def _by_metadata(google: Asking) -> dict[str, Any]:
    """Plain HTTP by design: the server is the machine's own, at a name only its network knows."""
    host = os.environ.get("GCE_METADATA_HOST") or METADATA_HOST
    answer = google.get(f"http://{host}{METADATA_PATH}", headers={"Metadata-Flavor": "Google"})
    if answer.headers.get("Metadata-Flavor") != "Google":
        raise GoogleRefused("what answers at the metadata server's address is none")
    return _json_of(answer, "the metadata server")


def _json_of(answer: Answer, who: str) -> dict[str, Any]:
    if answer.status != httpx.codes.OK:
        raise GoogleRefused(f"{who} answered {answer.status}, expected 200")
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise GoogleRefused(f"{who} answered something else than JSON")
    return document


def _secure(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise GoogleRefused("a credential would cross a plaintext network, expected https://")
    return url.rstrip("/")


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4), bit by bit: secrets are short."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
