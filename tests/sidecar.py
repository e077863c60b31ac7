"""What a sidecar such as the Cloud SQL Auth Proxy is: a socket in a directory, and bytes from there to a server."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def running_sidecar(path: str, server: tuple[str, int]) -> Iterator[None]:
    class Passing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(server) as upstream:
                back = threading.Thread(target=pump, args=(upstream, self.request), daemon=True)
                back.start()
                pump(self.request, upstream)
                back.join()

    class Sidecar(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        block_on_close = False

    with Sidecar(path, Passing) as accepting:
        thread = threading.Thread(target=accepting.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            accepting.shutdown()
            thread.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until their end, and pass that on as well."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
