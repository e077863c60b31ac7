"""A way to a PostgreSQL server that ends as one does that is stopped: with a last word nobody has read yet."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0"
LAST_WORD = b"E" + struct.pack("!i", 4 + len(_FIELDS)) + _FIELDS


class Dying:
    """What connects to `dsn` reaches the real server, until `die`."""

    def __init__(self, dsn: str) -> None:
        where = conninfo_to_dict(dsn)
        self._server = (str(where["host"]), int(str(where["port"])))
        self._door = socket.create_server(("127.0.0.1", 0))
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=self._door.getsockname()[1], sslmode="disable")
        self._ways: list[tuple[socket.socket, socket.socket, threading.Thread]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def die(self) -> None:
        """All that came was read: an orderly end for the client, and a reset for whatever it sends from now on."""
        for client, server, passing in self._ways:
            client.sendall(LAST_WORD)
            client.shutdown(socket.SHUT_RDWR)
            passing.join()
            client.close()
            server.close()

    def close(self) -> None:
        self._door.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(self._server)
                passing = threading.Thread(target=_pass, args=(client, server), daemon=True)
                passing.start()
                threading.Thread(target=_pass, args=(server, client), daemon=True).start()
                self._ways.append((client, server, passing))


@contextmanager
def dying(dsn: str) -> Iterator[Dying]:
    way = Dying(dsn)
    try:
        yield way
    finally:
        way.close()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
