"""SIGHUP: new certificates are shown, open sessions go on, and a broken file leaves everything as it was."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import trustme
from cryptography import x509

from hoopweb.embedded.ports import free_port
from tests.chaos.servers import wait_until
from tests.stack import PROJECT, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
_PORTS = ("HOOPWEB_POSTGRES_PORT", "HOOPWEB_MYSQL_PORT", "HOOPWEB_HTTP_PORT", "HOOPWEB_RELAY_PORT")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def issue(authority: trustme.CA, directory: Path) -> int:
    """Write a new certificate where the gateway reads it; returns its serial number."""
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def shown(port: int) -> int | None:
    """The serial number a handshake on the HTTP port shows; None while nothing listens."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw) as wrapped:
            der = wrapped.getpeercert(binary_form=True)
    except OSError:
        return None
    return x509.load_der_x509_certificate(der or b"").serial_number


@pytest.fixture
def ports(stack: Stack, authority: trustme.CA, tmp_path: Path) -> Iterator[dict[str, int]]:
    """A gateway with TLS beside the stack's, started by the supervisor that passes signals on; its pid is in it."""
    issue(authority, tmp_path)
    picked: list[int] = []
    for _ in _PORTS:
        picked.append(free_port(excluding=frozenset(picked)))
    ports = dict(zip(_PORTS, picked, strict=True))
    files = {"HOOPWEB_TLS_CERT_FILE": str(tmp_path / "cert.pem"), "HOOPWEB_TLS_KEY_FILE": str(tmp_path / "key.pem")}
    settings = {"DJANGO_SETTINGS_MODULE": "hoopweb.settings", **{name: str(port) for name, port in ports.items()}}
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "manage.py"), "rungateway", "--workers", "2"],
        env={**stack.env, **settings, **files},
        cwd=PROJECT,
    )
    try:
        wait_until(lambda: shown(ports["HOOPWEB_HTTP_PORT"]) is not None, within_s=120, what="a gateway with TLS")
        yield {**ports, "pid": process.pid}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def test_reload_shows_new_certificates_and_keeps_sessions(
    stack: Stack, ports: dict[str, int], authority: trustme.CA, tmp_path: Path
):
    http, native = ports["HOOPWEB_HTTP_PORT"], ports["HOOPWEB_POSTGRES_PORT"]
    root = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(root)
    address = f"host=127.0.0.1 port={native} dbname=clinic user=demo-agent sslmode=verify-full sslrootcert={root}"
    with psycopg.connect(address, password=stack.agent_token(), autocommit=True) as before:
        before.execute("select 1")
        first = shown(http)
        second = issue(authority, tmp_path)

        os.kill(ports["pid"], signal.SIGHUP)
        # Two processes share the port: both must have it.
        wait_until(lambda: {shown(http) for _ in range(32)} == {second}, within_s=60, what="the new certificate")
        assert second != first
        assert before.execute("select count(*) from encounters").fetchone() is not None
        with psycopg.connect(address, password=stack.agent_token(), autocommit=True) as after:
            after.execute("select 1")

        (tmp_path / "cert.pem").write_text("nonsense", encoding="utf-8")
        os.kill(ports["pid"], signal.SIGHUP)
        before.execute("select 1")
    assert shown(http) == second
