"""A mail server on a socket (RFC 5321): what it is told to refuse it refuses, the rest it keeps."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any


class _Conversation(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._say("220 ready")
        recipients: list[str] = []
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            if verb == "QUIT":
                return self._say("221 bye")
            if verb == "RCPT":
                address = rest.partition("<")[2].partition(">")[0]
                self.server.asked.append(address)
                if address in self.server.refuses:
                    self._say("550 no such mailbox")
                    continue
                recipients.append(address)
            if verb == "DATA":
                if self.server.silent.is_set():
                    self.server.ended.wait(30)
                    return None
                self._take(recipients)
                recipients = []
            self._say("250 well")
        return None

    def _take(self, recipients: list[str]) -> None:
        self._say("354 go on")
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        message: Any = message_from_bytes(b"".join(lines), policy=policy.default)
        self.server.taken.append((recipients, message))

    def _say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


class MailServer(socketserver.ThreadingTCPServer):
    """`refuses` are addresses nobody has here; while `silent` is set, no mail is answered for."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.refuses: set[str] = set()
        self.silent, self.ended = threading.Event(), threading.Event()
        self.asked: list[str] = []  # each address a mail was offered for
        self.taken: list[tuple[list[str], EmailMessage]] = []

    @property
    def told(self) -> list[str]:
        return [address for recipients, _ in self.taken for address in recipients]


@contextmanager
def mail_server(settings: Any) -> Iterator[MailServer]:
    """Mail goes to the server that is yielded."""
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address[:2]
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
