"""Handing a batch to a receiver, and knowing that it has it. Blocking; every wait is bounded.

HTTP answers with a status. Syslog has no acknowledgement (RFC 5425 says so), so a batch has a connection of its own: it
counts as delivered when the receiver has answered our end of stream with its own, which it can only do after reading
everything before it. A reset or silence instead means that the batch is sent again. A file is written and synced.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from audit.foreign_answers import PLAIN, AnswerRefused, hung_up_after, read_plain
from audit.sinks.targets import Network, Target, TargetProblem, resolve

CONNECT_WITHIN_S = 5.0
ANSWER_WITHIN_S = 15.0
WHOLE_WITHIN_S = 60.0  # a batch sent and answered, also by a receiver that trickles
MAX_ANSWER_BYTES = 1 << 20


class NotDelivered(RuntimeError):
    """The receiver does not have the batch, or did not say so. In our words: a peer's answer may quote what it got."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0, status: int = 0, answer: bytes = b"") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status = status  # HTTP's, 0 where there was none
        self.answer = answer

    partly = False

    @property
    def too_large(self) -> bool:
        return self.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE


class PartlyDelivered(NotDelivered):
    """Some of several receivers have it, and others do not: what was delivered counts, and so does the failure."""

    partly = True

    def __init__(self, message: str, *, proof: bytes) -> None:
        super().__init__(message)
        self.proof = proof


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach the receiver."""

    target: Target
    networks: Sequence[Network]
    ca: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    directory: Path = Path()


def post(way: Way, body: bytes, *, content_type: str) -> bytes:
    """POST and return the answer's body, at most a megabyte of it. Raises NotDelivered."""
    target = way.target
    address = _address(way)
    host = f"[{address}]" if ":" in address else address
    url = f"{'https' if target.tls else 'http'}://{host}:{target.port}{target.path}"
    headers = {**way.headers, "Host": target.authority, "Content-Type": content_type}
    timeout = httpx.Timeout(ANSWER_WITHIN_S, connect=CONNECT_WITHIN_S)
    verify: ssl.SSLContext | bool = tls_context(way.ca) if target.tls else False
    try:
        with (
            hung_up_after(WHOLE_WITHIN_S) as hanging_up,
            httpx.Client(
                timeout=timeout, verify=verify, follow_redirects=False, trust_env=False, headers=PLAIN
            ) as client,
            client.stream(
                "POST", url, content=body, headers=headers, extensions=hanging_up | {"sni_hostname": target.host}
            ) as response,
        ):
            answer = read_plain(response, max_bytes=MAX_ANSWER_BYTES, within_s=ANSWER_WITHIN_S)
            _judge(response, answer)
            return answer
    except AnswerRefused as refused:
        raise NotDelivered(str(refused)) from None
    except httpx.HTTPError as error:
        raise NotDelivered(f"no answer: {_cause(error)}") from None


def _cause(error: BaseException) -> str:
    """What the operator has to look at, in our words: a peer chooses some of the library's."""
    causes = [error]
    while (before := causes[-1].__cause__ or causes[-1].__context__) is not None and before not in causes:
        causes.append(before)
    for kind, words in _CAUSES:
        if any(isinstance(cause, kind) for cause in causes):
            return words
    return type(error).__name__


_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "its certificate is not of the given authority (ca) for this name"),
    (ssl.SSLError, "it does not speak TLS as expected"),
    (ConnectionRefusedError, "nothing listens there (connection refused)"),
    (ConnectionResetError, "it reset the connection"),
    (TimeoutError, "it took too long"),
    (httpx.TimeoutException, "it took too long"),
)


def _judge(response: httpx.Response, answer: bytes) -> None:
    if response.is_success:
        return
    after = response.headers.get("Retry-After", "")
    raise NotDelivered(
        f"the receiver answered {response.status_code}",
        retry_after_s=float(after) if after.isascii() and after.isdecimal() else 0.0,
        status=response.status_code,
        answer=answer,
    )


def stream(way: Way, frames: Sequence[bytes]) -> None:
    """Send the frames over a connection of their own and wait until they are read. Raises NotDelivered."""
    address = _address(way)
    try:
        with socket.create_connection((address, way.target.port), timeout=CONNECT_WITHIN_S) as plain:
            plain.settimeout(ANSWER_WITHIN_S)
            if way.target.tls:
                _stream_tls(way, plain, frames)
            else:
                plain.sendall(b"".join(frames))
                _await_end(plain)
    except OSError as error:  # ssl.SSLError and timeouts are such
        raise NotDelivered(f"not taken: {_cause(error)}") from None


def _stream_tls(way: Way, plain: socket.socket, frames: Sequence[bytes]) -> None:
    with tls_context(way.ca).wrap_socket(plain, server_hostname=way.target.host) as secured:
        secured.sendall(b"".join(frames))
        try:
            # RFC 5425 §4.4: close_notify, and wait for theirs.
            rest = secured.unwrap()
        except ssl.SSLEOFError:
            return  # their end of stream without a close_notify: old, and an answer nevertheless
        _await_end(rest)


def _await_end(connection: socket.socket) -> None:
    """Say that nothing more comes, and read on until the receiver says the same. A reset is an OSError."""
    connection.shutdown(socket.SHUT_WR)
    until = time.monotonic() + ANSWER_WITHIN_S
    while connection.recv(4096):
        if time.monotonic() > until:
            raise TimeoutError


def append_file(way: Way, texts: Sequence[str]) -> None:
    """Append lines, durably. Opened for every batch, so that a rotation by rename or by truncation loses nothing.

    A line that a crash cut short is ended first: it is delivered again whole, under the same id. Raises NotDelivered.
    """
    path = way.directory / way.target.path
    try:
        way.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o640), "r+b", buffering=0) as file:
            data = (b"" if _ends_whole(file) else b"\n") + "".join(f"{text}\n" for text in texts).encode()
            while data:
                data = data[file.write(data) or 0 :]
            os.fsync(file.fileno())
    except OSError as error:
        raise NotDelivered(f"the file cannot be written: {error.strerror or type(error).__name__}") from None


def _ends_whole(file: IO[bytes]) -> bool:
    size = file.seek(0, os.SEEK_END)
    if not size:
        return True
    file.seek(size - 1)
    return file.read(1) == b"\n"


def tls_context(ca: str) -> ssl.SSLContext:
    """Verifies the name against `ca` (PEM), or against the system's authorities when there is none."""
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except ssl.SSLError:
        raise NotDelivered("the certificate authority is not PEM") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _address(way: Way) -> str:
    try:
        return resolve(way.target, networks=way.networks)
    except TargetProblem as problem:
        raise NotDelivered(str(problem)) from None
