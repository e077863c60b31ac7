"""Delivery to the syslog daemon most hospitals run: rsyslog over TLS (RFC 5425), which parses and keeps what it got."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from audit.domain.append import append_entries
from audit.models import Sink
from audit.sinks.delivery import deliver
from hoopweb.embedded.ports import free_port
from tests.audit.factories import authorised, completed, denied, opened
from tests.audit.sinks.test_delivery import loopback, sink  # noqa: F401

RSYSLOGD = Path("/usr/sbin/rsyslogd")
pytestmark = [
    pytest.mark.usefixtures("loopback"),
    pytest.mark.skipif(not RSYSLOGD.exists(), reason="no rsyslog: apt-get install rsyslog rsyslog-gnutls"),
]
_CONFIGURATION = """
global(workDirectory="{directory}" defaultNetstreamDriver="gtls" maxMessageSize="64k"
       defaultNetstreamDriverCAFile="{directory}/ca.pem"
       defaultNetstreamDriverCertFile="{directory}/cert.pem" defaultNetstreamDriverKeyFile="{directory}/key.pem")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="{tls}" streamDriver.authMode="anon")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="kept" type="list" option.jsonf="on") {{
  property(outname="pri" name="pri" format="jsonf") property(outname="version" name="protocol-version" format="jsonf")
  property(outname="host" name="hostname" format="jsonf") property(outname="app" name="app-name" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf") property(outname="msg" name="msg" format="jsonf")
}}
action(type="omfile" file="{directory}/kept.log" template="kept" sync="on")
"""


@dataclass(slots=True)
class Daemon:
    port: int
    directory: Path

    def kept(self, count: int) -> list[dict[str, str]]:
        """What it wrote, once that is as much as expected."""
        until = time.monotonic() + 60
        while True:
            path = self.directory / "kept.log"
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            if len(lines) >= count or time.monotonic() > until:
                return [json.loads(line) for line in lines]
            time.sleep(0.05)


@contextlib.contextmanager
def rsyslog(directory: Path, authority: trustme.CA, *, tls: bool) -> Iterator[Daemon]:
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    daemon = Daemon(free_port(), directory)
    configuration = directory / "rsyslog.conf"
    configuration.write_text(_CONFIGURATION.format(directory=directory, port=daemon.port, tls=int(tls)))
    command = [str(RSYSLOGD), "-n", "-f", str(configuration), "-i", str(directory / "pid")]
    with (directory / "said.log").open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            listening(daemon.port)
            yield daemon
        finally:
            process.terminate()


def listening(port: int) -> None:
    """Return when somebody listens there; nothing is sent."""
    until = time.monotonic() + 30
    while f":{port:04X} 00000000:0000 0A" not in Path("/proc/net/tcp").read_text():
        assert time.monotonic() < until, "rsyslog does not listen"
        time.sleep(0.02)


@pytest.mark.parametrize(("scheme", "tls"), [("syslog+tls://localhost", True), ("syslog+tcp://127.0.0.1", False)])
def test_rsyslog_takes_every_event_with_its_fields_and_acknowledges_by_closing(tmp_path: Path, scheme: str, tls: bool):
    append_entries([opened(), authorised("a1"), completed("a1"), *(denied(f"d{at}") for at in range(200))])
    authority = trustme.CA()
    with rsyslog(tmp_path, authority, tls=tls) as daemon:
        fields = {"ca": authority.cert_pem.bytes().decode()} if tls else {}
        row = sink(f"{scheme}:{daemon.port}", "syslog", **fields)
        deliver(row.pk)
        row.refresh_from_db()
        kept = daemon.kept(203)

    assert (row.cursor, row.problem) == (203, "")
    assert [event["data"].partition('seq="')[2].partition('"')[0] for event in kept] == [
        str(at) for at in range(1, 204)
    ]
    first = kept[0]
    assert (first["pri"], first["version"], first["app"]) == ("110", "1", "hoopweb")
    assert "drop table" not in (tmp_path / "kept.log").read_text()


def test_rsyslog_of_another_authority_gets_nothing(tmp_path: Path):
    append_entries([opened()])
    with rsyslog(tmp_path, trustme.CA(), tls=True) as daemon:
        row = sink(f"syslog+tls://localhost:{daemon.port}", "syslog", ca=trustme.CA().cert_pem.bytes().decode())
        deliver(row.pk)

    assert Sink.objects.get().cursor == 0
    assert not (tmp_path / "kept.log").exists()


@pytest.mark.parametrize("format", ["cef", "ocsf"])
def test_other_formats_arrive_whole(tmp_path: Path, format: str):
    append_entries([opened(), denied("d1")])
    with rsyslog(tmp_path, trustme.CA(), tls=False) as daemon:
        row = sink(f"syslog+tcp://127.0.0.1:{daemon.port}", format)
        deliver(row.pk)
        kept = daemon.kept(2)

    assert len(kept) == 2
    assert Sink.objects.get().cursor == 2
