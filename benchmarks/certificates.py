"""Certificates of one run: an authority of its own, and a pair for 127.0.0.1."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files that a server shows (`chain`, `key`) and its clients trust (`authority`)."""

    chain: Path
    key: Path
    authority: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


def issue(directory: Path) -> Certificates:
    """Write a new authority and a certificate for 127.0.0.1 into `directory`."""
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    made = Certificates(directory / "tls.pem", directory / "tls.key", directory / "tls-authority.pem")
    authority.cert_pem.write_to_path(str(made.authority))
    pair.cert_chain_pems[0].write_to_path(str(made.chain))
    pair.private_key_pem.write_to_path(str(made.key))
    made.key.chmod(0o600)
    return made
