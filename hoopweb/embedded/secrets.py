"""The embedded stack's own secrets: made once, random, one private file each below `<home>/secrets`.

`hoopweb.settings` finds them there through `env_secret`. A deployment brings its own and never calls this module.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from joserfc.jwk import ECKey, KeyParameters
from nacl.public import PrivateKey


def ensure_secrets(home: Path) -> None:
    """Create whatever is missing; what exists is kept, because stored data depends on it."""
    directory = secrets_directory(home)
    _ensure_credential_keys(directory)
    for name, make in _GENERATORS.items():
        if not (directory / name).exists():
            write_secret(home, name, make())


def ensure_secret(home: Path, name: str, make: Callable[[], str]) -> str:
    """Return the secret of that name, made on first use."""
    path = secrets_directory(home) / name
    if not path.exists():
        write_secret(home, name, make())
    return path.read_text(encoding="utf-8").strip()


def write_secret(home: Path, name: str, value: str) -> None:
    """Replace a secret whole (rename, so that a reader never sees half of one) with mode 0600 from its first byte."""
    write_private(secrets_directory(home) / name, value)


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner may read, atomically."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)


def secrets_directory(home: Path) -> Path:
    directory = home / "secrets"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def new_password() -> str:
    """256 random bits in URL-safe characters: fits a DSN without quoting."""
    return secrets.token_urlsafe(32)


def _ensure_credential_keys(directory: Path) -> None:
    """The X25519 pair of the credential box; the halves belong together, so both are made when one is missing."""
    private_path, public_path = directory / "credential_private_keys", directory / "credential_public_key"
    if private_path.exists() and public_path.exists():
        return
    key = PrivateKey.generate()
    write_private(private_path, base64.b64encode(bytes(key)).decode())
    write_private(public_path, base64.b64encode(bytes(key.public_key)).decode())


def _key_of_32_bytes() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _issuer_keys() -> str:
    """A private JWK set with one P-256 key for ES256 (RFC 7517, RFC 7518 section 3.4)."""
    parameters: KeyParameters = {"kid": secrets.token_hex(8), "use": "sig", "alg": "ES256"}
    key = ECKey.generate_key("P-256", parameters=parameters)
    return json.dumps({"keys": [key.as_dict(private=True)]})


_GENERATORS: dict[str, Callable[[], str]] = {
    "secret_key": lambda: secrets.token_urlsafe(48),
    "evidence_keys": _key_of_32_bytes,
    "log_signing_key": _key_of_32_bytes,
    "token_key": _key_of_32_bytes,
    "issuer_keys": _issuer_keys,
    "relay_key": new_password,
}
