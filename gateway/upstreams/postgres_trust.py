"""Whom a connection to PostgreSQL trusts: authorities and host names, for sessions and for libpq's side connections."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import load_der_x509_certificate

from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.postgres_dial import refuse_contradictions

# Authorities are read again after this, and at once when the connection's own file of them changes.
TRUSTED_FOR_S = 300.0


def tls_context(spec: ConnectionSpec) -> ssl.SSLContext:
    """`verify-full` checks chain and host name (against `settings.ca_file` when given); `require` only encrypts."""
    ca_file = spec.settings.get("ca_file", "")
    changed_at = os.stat(ca_file).st_mtime_ns if ca_file else 0
    return _shared_context(spec.tls == "require", ca_file, changed_at, int(time.monotonic() // TRUSTED_FOR_S))


def libpq_tls(spec: ConnectionSpec) -> dict[str, str]:
    """`tls_context` in libpq's words, for side connections: what is asked there trusts whom the sessions trust.

    libpq's own default is a file in the home directory of whoever runs it, and without one nothing is trusted. Outside
    TLS it would tell a password to whoever asks for it, which a session does not (`postgres_login`).
    """
    refuse_contradictions(spec)
    if spec.tls == "disable":
        peer = spec.settings.get("requirepeer", "")
        named = {"requirepeer": peer} if peer else {}
        return {"sslmode": spec.tls, "require_auth": "!password,!md5", **named}
    if spec.tls != "verify-full":
        return {"sslmode": spec.tls}
    system = ssl.get_default_verify_paths().cafile or "system"
    return {"sslmode": spec.tls, "sslrootcert": spec.settings.get("ca_file") or system}


@lru_cache(maxsize=64)
def _shared_context(only_encrypts: bool, ca_file: str, _changed_at: int, _period: int) -> ssl.SSLContext:
    """One for all sessions of a period: the trusted authorities alone are some hundred kilobytes of each."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # whom a channel is bound to stays who it was; PostgreSQL never asks
    if only_encrypts:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def end_point_digest(certificate: bytes) -> bytes:
    """The digest for tls-server-end-point: by the hash of the certificate's own signature, SHA-256 for the weak ones
    (RFC 5929 §4.1). Empty where that hash is not defined (Ed25519): then no channel can be bound."""
    if not certificate:
        return b""
    try:
        algorithm = load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return b""
    if algorithm is None:
        return b""
    weak = algorithm.name in {"md5", "sha1"}
    return hashlib.new("sha256" if weak else algorithm.name, certificate).digest()
