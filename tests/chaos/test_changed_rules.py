"""Rules that change while their subject runs, over the whole product: what a client has not read yet is not shown."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from tests.bypass.wire import Target, Wire, message
from tests.chaos.load import rest_of
from tests.chaos.servers import APP_PASSWORD, Upstream, wait_until
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Some eighty megabytes: more than what stands between a client that does not read and the server.
LONG = """SELECT id, label, repeat('x', 4000) FROM generate_series(1, 20000) id,
    (SELECT label FROM marks WHERE label = 'open' LIMIT 1) one"""
ROWS = 20_000
_DOCUMENT = """
apiVersion: hoopweb/v1
connections:
  - {{name: far-changing, kind: postgres, host: 127.0.0.1, port: {port}, database: far, username: far_app,
      password: {{value: {password}}}, tls: disable, phi: true, scan_text: false, recording: metadata}}
access:
  - {{name: changing, groups: [far-agents], connections: [far-changing], operations: [{operations}]}}
masking: [{masking}]
"""
_MASK = "{name: changing, connections: [far-changing], columns: [public.marks.label], technique: redact}"


def apply(fragile: Stack, upstream: Upstream, *, operations: str = "read, write", masking: str = "") -> None:
    document = _DOCUMENT.format(
        port=upstream.server.port, password=APP_PASSWORD, operations=operations, masking=masking
    )
    done = fragile.manage("apply", "-f", "-", stdin=document)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def changing(fragile: Stack, upstream: Upstream, far: Target) -> Target:
    apply(fragile, upstream)
    target = replace(far, database="far-changing")
    with Wire(target) as wire:
        wait_until(
            lambda: wire.simple("INSERT INTO marks VALUES ('open')").tags == ["INSERT 0 1"], within_s=60, what="rights"
        )
    return target


def test_what_runs_ends_where_rights_are_taken_and_masks_given(
    fragile: Stack, upstream: Upstream, changing: Target
) -> None:
    """Both in one document, so that the end of the writer tells that the reader was looked at as well."""
    with Wire(changing) as reader, Wire(changing) as writer:
        reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        reader.socket.sendall(message(b"Q", f"COPY ({LONG}) TO STDOUT".encode() + b"\0"))
        opened, first = reader.read_message(), reader.read_message()
        writer.socket.sendall(message(b"Q", b"COPY marks FROM STDIN\0"))
        assert writer.read_message()[0] == b"G"
        writer.socket.sendall(message(b"d", b"changing-copied\n"))

        apply(fragile, upstream, operations="read", masking=_MASK)
        written, read = rest_of(writer), rest_of(reader)

    assert written.sqlstate == "57P01"
    assert upstream.query("SELECT count(*) FROM marks WHERE label = 'changing-copied'") == [(0,)]
    assert opened[0] == b"H"
    assert b"\topen\t" in first[1], "it has to be shown without the rule"
    assert read.errors, "all of it was shown"
    assert read.sqlstate == "42501"
    assert read.copied.count(b"\topen\t") < ROWS - 1
