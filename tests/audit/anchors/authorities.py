"""A time-stamping authority (openssl ts) and a witness, both real, both on loopback."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from audit.anchors.cosignature import Witness, signed_message
from audit.domain.merkle import verify_consistency
from audit.domain.note import Verifier, open_checkpoint, split_note

_CONFIG = """
[tsa]
default_tsa = only
[only]
serial = {directory}/serial
signer_cert = {directory}/tsa.pem
signer_key = {directory}/tsa.key
default_policy = 1.3.6.1.4.1.13762.3
digests = sha256, sha384, sha512
signer_digest = sha256
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class TimestampAuthority:
    """Its root is `root`; `answer` is what its HTTP server does. `chain`: it sends all its certificates along."""

    def __init__(self, directory: Path, *, chain: bool = False) -> None:
        directory.mkdir()
        self._directory = directory
        root_key, key = (generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
        root = _certificate("root", root_key.public_key(), "root", root_key, authority=True)
        usage = ExtendedKeyUsageOID.TIME_STAMPING
        tsa = _certificate("tsa", key.public_key(), "root", root_key, usage=usage)
        self.root = root.public_bytes(Encoding.PEM).decode()
        (directory / "root.pem").write_text(self.root)
        (directory / "tsa.pem").write_bytes(tsa.public_bytes(Encoding.PEM))
        (directory / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (directory / "serial").write_text("01\n")
        # In the order that DER does not have them in, whichever that is.
        ders = sorted((one.public_bytes(Encoding.DER), one.public_bytes(Encoding.PEM)) for one in (root, tsa))
        (directory / "chain.pem").write_bytes(b"".join(pem for _, pem in reversed(ders)))
        certs = f"certs = {directory}/chain.pem\n" if chain else ""
        (directory / "openssl.cnf").write_text(_CONFIG.format(directory=directory) + certs)

    def answer(self, query: bytes) -> tuple[int, dict[str, str], bytes]:
        (self._directory / "query").write_bytes(query)
        command = ["openssl", "ts", "-reply", "-config", "openssl.cnf", "-queryfile", "query", "-out", "reply"]
        subprocess.run(command, cwd=self._directory, check=True, capture_output=True)
        return 200, {"Content-Type": "application/timestamp-reply"}, (self._directory / "reply").read_bytes()


def _certificate(
    name: str, public, issuer: str, key: RSAPrivateKey, *, authority: bool = False, usage=None
) -> x509.Certificate:  # type: ignore[no-untyped-def]
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    return builder.sign(key, hashes.SHA256())


class LocalWitness:
    """Follows C2SP tlog-witness: remembers one checkpoint of the log, and signs only what is consistent with it."""

    def __init__(self, log: Verifier) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._log = log
        self.witness = Witness("witness.example", self._key.public_key().public_bytes_raw())
        self.size, self.root = 0, hashlib.sha256(b"").digest()
        self.refusals: list[int] = []

    def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        head, _, note = body.decode().partition("\n\n")
        old_line, *proof = head.split("\n")
        old = int(old_line.removeprefix("old "))
        checkpoint = open_checkpoint(note, [self._log])
        if old != self.size:
            return self._refuse(409, f"{self.size}\n".encode())
        nodes = [base64.b64decode(node) for node in proof]
        if old and not verify_consistency(
            first=old, second=checkpoint.size, first_root=self.root, second_root=checkpoint.root, proof=nodes
        ):
            return self._refuse(422, b"not consistent\n")
        self.size, self.root = checkpoint.size, checkpoint.root
        time_s = int(time.time())
        signature = self._key.sign(signed_message(split_note(note)[0], time_s))
        raw = base64.b64encode(self.witness.key_id + time_s.to_bytes(8, "big") + signature).decode()
        return 200, {}, f"— {self.witness.name} {raw}\n".encode()

    def _refuse(self, status: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.refusals.append(status)
        return status, {"Content-Type": "text/x.tlog.size"}, body
