"""Real receivers on loopback: HTTP, and syslog over TLS or plain TCP. Each keeps what it was sent."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HttpReceiver:
    """`answer(body)` gives status, headers and body; by default 200 and nothing."""

    def __init__(self, *, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Callable[[bytes], tuple[int, dict[str, str], bytes]] = lambda body: (200, {}, b"")
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                status, headers, answer = receiver.answer(body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class SyslogReceiver:
    """RFC 5425 and 6587 framing: `MSG-LEN SP SYSLOG-MSG`. `drop_after` resets a connection after that many frames."""

    def __init__(self, *, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.frames: list[str] = []
        self.connections = 0
        self.drop_after: int | None = None
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._closed = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self._closed:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with contextlib.suppress(OSError):
                self._take(plain)

    def _take(self, plain: socket.socket) -> None:
        connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
        with connection, connection.makefile("rb") as stream:
            taken = 0
            while length := _read_length(stream):
                self.frames.append(stream.read(length).decode())
                taken += 1
                if self.drop_after is not None and taken >= self.drop_after:
                    # A reset, as a killed receiver's kernel sends one for what it had not read.
                    plain_fd = connection.detach()
                    broken = socket.socket(fileno=plain_fd)
                    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    broken.close()
                    return
            if self._context:
                connection.unwrap()

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class TricklingReceiver:
    """Answers `head`, then a byte every tenth of a second for as long as anybody listens."""

    def __init__(self, *, head: bytes = b"", context: ssl.SSLContext | None = None) -> None:
        self._head, self._context = head, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._trickle, args=[plain], daemon=True).start()

    def _trickle(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            with connection:
                connection.sendall(self._head)
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.1)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _read_length(stream: Any) -> int:
    digits = b""
    while (byte := stream.read(1)) and byte != b" ":
        digits += byte
    return int(digits) if digits else 0


@contextlib.contextmanager
def running(receiver: Any) -> Iterator[Any]:
    try:
        yield receiver
    finally:
        receiver.close()
