"""A WebSocket of the running product against raw frames, most of them before anybody has signed in."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import struct
import time
import zlib
from urllib.parse import urlsplit

import pytest

from tests.stack import Stack

TEXT, BINARY, CONTINUED, CLOSE, PING = 1, 2, 0, 8, 9
PACKED = 0x40  # RSV1, permessage-deflate (RFC 7692 §7.2.3)
MAX_BYTES = 16 * 1024 * 1024


def frame(payload: bytes, kind: int = TEXT, *, last: bool = True, bits: int = 0) -> bytes:
    """A client's frame (RFC 6455 §5.2), masked with zeros."""
    length = (
        bytes([0x80 | len(payload)]) if len(payload) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(payload))
    )
    return bytes([(0x80 if last else 0) | bits | kind]) + length + bytes(4) + payload


def announced(size: int) -> bytes:
    """The head of a frame, whose payload never comes."""
    return bytes([0x80 | TEXT, 0x80 | 127]) + struct.pack(">Q", size) + bytes(4)


def packed_bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return packer.compress(b" " * (MAX_BYTES - 16)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]


def opened(stack: Stack, path: str = "/ws/v1/connections/clinic/", **fields: str) -> tuple[socket.socket, bytes]:
    """A socket, and what the handshake was answered with."""
    place = urlsplit(stack.demo["web_url"])
    assert place.hostname is not None
    dialled = socket.create_connection((place.hostname, place.port or 80), timeout=60)
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    key = base64.b64encode(os.urandom(16)).decode()
    dialled.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n".encode()
    )
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += dialled.recv(4096)
    return dialled, heard


def closed_with(dialled: socket.socket) -> int:
    """The code of the close frame that comes next."""
    heard = b""
    while len(heard) < 4:
        piece = dialled.recv(4096)
        assert piece, heard
        heard += piece
    assert heard[0] == 0x80 | CLOSE, heard
    return int(struct.unpack(">H", heard[2:4])[0])


def test_nothing_is_unpacked(stack: Stack) -> None:
    """Sixteen kilobytes would be sixteen megabytes in memory, as often as a client likes, whoever it is."""
    bomb = packed_bomb()
    dialled, answer = opened(stack, Sec_WebSocket_Extensions="permessage-deflate")

    with dialled:
        assert b" 101 " in answer
        assert b"sec-websocket-extensions" not in answer.lower()
        dialled.sendall(frame(bomb, bits=PACKED))
        assert closed_with(dialled) == 1002


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(bytes([0x80 | TEXT, 2]) + b"{}", 1002, id="not masked"),
        pytest.param(frame(b"\xff\xfe"), 1007, id="no UTF-8"),
        pytest.param(frame(b"{}", 3), 1002, id="a kind nobody knows"),
        pytest.param(frame(b"{}", bits=0x20), 1002, id="a bit nobody knows"),
        pytest.param(frame(b"{", last=False) + frame(b"}"), 1002, id="a message inside another"),
        pytest.param(frame(b"}", CONTINUED), 1002, id="the end of no message"),
        pytest.param(frame(b"x", PING, last=False), 1002, id="a ping in parts"),
        pytest.param(frame(b"x" * 126, PING), 1002, id="a long ping"),
        pytest.param(announced(MAX_BYTES + 1), 1009, id="too long"),
        pytest.param(announced(2**63 - 1), 1009, id="endless"),
    ],
)
def test_what_is_no_message_ends_the_socket(stack: Stack, sent: bytes, code: int) -> None:
    dialled, _ = opened(stack)

    with dialled:
        dialled.sendall(sent)
        assert closed_with(dialled) == code


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://"])
def test_other_sites_pages_open_none(stack: Stack, origin: str) -> None:
    dialled, answer = opened(stack, Origin=origin)

    with dialled:
        assert b" 403 " in answer


def test_what_stands_in_an_address_is_not_in_the_log(stack: Stack) -> None:
    """No door looks for a token there; a client may have put one there all the same."""
    name, secret = f"named-{secrets.token_hex(8)}", secrets.token_hex(16)
    dialled, _ = opened(stack, f"/ws/v1/connections/{name}/?token={secret}")

    with dialled:
        deadline = time.monotonic() + 60
        while name not in (log := stack.log_path.read_text(encoding="utf-8", errors="replace")):
            assert time.monotonic() < deadline, "the server logs no addresses: the test shows nothing"
            time.sleep(0.1)
        assert secret not in log
