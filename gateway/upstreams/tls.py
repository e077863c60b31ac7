"""TLS between a socket and whoever speaks through it, on either leg, at what OpenSSL itself needs.

The event loops' own layers keep a receive buffer for every connection, and let their memory BIOs grow to the largest
read and write there ever was (uvloop: a mapping of 256 KB and buffers that are never given back). Here the socket's
bytes pass through in pieces of a record, so that an idle connection holds its SSL object and little else.

    raw transport → data_received → incoming BIO → SSLObject → protocol.data_received
    raw transport ←  write, records ← outgoing BIO ← SSLObject ← write

One object is the protocol of the raw transport and the transport of the protocol. Nothing is kept back in between: what
arrives is decrypted at once, what is written is encrypted at once, and the raw transport's flow control is the
protocol's. Context, versions, certificates and ALPN are the caller's; so is the time a handshake may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

# What goes through OpenSSL at once: the plaintext of one record (RFC 8446 §5.1).
RECORD_BYTES = 16 * 1024
# A peer that takes nothing more, not even our goodbye.
SHUTDOWN_TIMEOUT_S = 30.0
# Answers of TLS itself (to KeyUpdate, RFC 8446 §4.6.3) that may wait for a peer that takes nothing: hundreds. One that
# goes on asking for them would have us keep them all.
MAX_UNTAKEN_BYTES = 16 * 1024


class TlsTransport(asyncio.Protocol):
    """An `asyncio.Transport` as far as a protocol of ours needs one; made by `secure`."""

    __slots__ = (
        "_closing", "_handshake", "_incoming", "_open", "_outgoing", "_over", "_protocol", "_raw", "_timer",
        "_untaken", "ssl_object",
    )  # fmt: skip

    def __init__(
        self, raw: asyncio.Transport, protocol: asyncio.Protocol, context: ssl.SSLContext, server_hostname: str | None
    ) -> None:
        self._raw = raw
        self._protocol = protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._handshake: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        self._open = False  # what is decrypted may be handed on
        self._over = False  # the peer said goodbye
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._untaken: int | None = None  # bytes of TLS's own answers since the peer stopped taking what is written

    async def shake_hands(self, received: bytes) -> None:
        """Return when both sides are sure of each other. `received`: what the peer said before this layer was there."""
        assert self._handshake is not None
        waiting = self._handshake
        self._raw.set_protocol(self)
        self.data_received(received)
        self._raw.resume_reading()
        await waiting

    def begin(self) -> None:
        """Hand on what the peer says, from now on and what it said with the end of its handshake."""
        self._open = True
        self.data_received(b"")

    # --- The raw transport's protocol ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            plain = self._decrypted(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        if plain:
            self._protocol.data_received(plain)
        if self._over:
            self.close()

    def eof_received(self) -> None:
        """The peer left without a goodbye: nothing it may have meant to say is awaited, the raw transport closes.

        It waits for what is written to be taken, by a peer that may have stopped reading as well.
        """
        self._abort_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._handshake is not None:
            self._settle(exc or ConnectionResetError("the peer left during the TLS handshake"))
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._untaken = 0
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._untaken = None
        self._protocol.resume_writing()

    # --- The protocol's transport -------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._closing or not data:
            return
        try:
            if len(data) <= RECORD_BYTES:
                self.ssl_object.write(data)
                self._raw.write(self._outgoing.read())
            else:
                self._raw.writelines(self._records(memoryview(data)))
        except ssl.SSLError as error:
            self._fail(error)

    def pause_reading(self) -> None:
        if not self._closing:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if not self._closing:
            self._raw.resume_reading()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Send what is written and close_notify, then close; the peer's own goodbye is not waited for."""
        if self._closing:
            return
        if self._handshake is not None:
            self.abort()
            return
        self._closing = True
        with contextlib.suppress(ssl.SSLError):  # it wants the peer's close_notify, or the peer broke TLS
            self.ssl_object.unwrap()
        self._send()
        self._raw.close()
        self._abort_later()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def _abort_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT_S, self._raw.abort)

    # --- Records ------------------------------------------------------------------------------------------------------

    def _decrypted(self, data: bytes) -> bytes:
        """Feed what arrived, a piece at a time; return the plaintext there is. Nothing behind a goodbye is."""
        incoming, read, pending = self._incoming, self.ssl_object.read, self.ssl_object.pending
        view, at = memoryview(data), 0
        parts: list[bytes] = []
        while True:
            if at < len(view):
                incoming.write(view[at : at + RECORD_BYTES])
                at += RECORD_BYTES
            if self._handshake is not None:
                self._step()
            try:
                while self._open and (incoming.pending or pending()):
                    part = read(RECORD_BYTES)
                    if not part:
                        return self._ended(parts)
                    parts.append(part)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                return self._ended(parts)
            if at >= len(view):
                break
        self._answer()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _ended(self, parts: list[bytes]) -> bytes:
        self._over = True
        return b"".join(parts)

    def _records(self, view: memoryview) -> list[bytes]:
        records: list[bytes] = []
        for at in range(0, len(view), RECORD_BYTES):
            self.ssl_object.write(view[at : at + RECORD_BYTES])
            records.append(self._outgoing.read())
        return records

    def _answer(self) -> None:
        """Send what TLS itself has to say to what arrived: KeyUpdate."""
        if self._untaken is not None:
            self._untaken += self._outgoing.pending
            if self._untaken > MAX_UNTAKEN_BYTES:
                self.abort()
                return
        self._send()

    def _send(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    # --- Handshake ----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            return
        finally:
            self._send()  # an alert says why it fails
        self._settle(None)

    def _settle(self, error: Exception | None) -> None:
        handshake, self._handshake = self._handshake, None
        if handshake is None or handshake.done():
            return
        if error is None:
            handshake.set_result(None)
        else:
            handshake.set_exception(error)

    def _fail(self, error: ssl.SSLError) -> None:
        """The peer broke TLS: it hears OpenSSL's alert, and nothing of it is believed any more."""
        self._closing = True
        self._send()
        if self._handshake is not None:
            self._settle(error)
        self._raw.close()
        self._abort_later()


async def secure(
    raw: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    received: bytes = b"",
) -> TlsTransport:
    """Put TLS between `raw`, which must not be reading, and `protocol`; the server's side, unless a name is given.

    Call `begin` when what the handshake agreed on is looked at. Raises ssl.SSLError, or ConnectionError when the peer
    left; cancelled, it aborts the connection.
    """
    transport = TlsTransport(raw, protocol, context, server_hostname)
    try:
        await transport.shake_hands(received)
    except BaseException:
        if not transport.is_closing():
            transport.abort()
        raise
    return transport
