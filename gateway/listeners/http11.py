"""uvicorn's HTTP/1.1, without its leniency and with limits on the time a client may take.

head      buffered here until it is whole, looked through (`protocols.http.heads`), then handed to uvicorn;
          one that takes longer than `HEAD_WITHIN_S` is answered 408
body      uvicorn's; whoever reads it bounds its size and time. What goes on being sent after the answer is cut off
pipeline  not served: whatever follows a request before its answer is dropped, and the connection closed after it.
          So a request hidden behind another one's end is never run
upgrades  ignored: there is nothing else to speak on this port
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.protocols.http.heads import END, Fault, fault_of, has_bare_lf

logger = logging.getLogger(__name__)

HEAD_WITHIN_S: Final = 20.0
LEFTOVER_WITHIN_S: Final = 30.0
# Request line and headers together; tokens of some issuers are 8 KiB.
MAX_HEAD_BYTES: Final = 64 * 1024
_WHOLE = (h11.DONE, h11.MUST_CLOSE)
_LATE = Fault(408, "the request's head did not arrive in time")
_LARGE = Fault(431, f"the request's head is larger than {MAX_HEAD_BYTES} bytes")
_MALFORMED = Fault(400, "the request is malformed")


class StrictHttp11(H11Protocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.conn.their_state is not h11.IDLE:
            self._receive_body(data)
            return
        self._unset_keepalive_if_required()
        if not self._head and self._timer is None:
            self._await_head()
        begin = max(0, len(self._head) - len(END))
        self._head += data
        end = self._head.find(END, begin)
        fault = self._fault(begin, end)
        if fault is not None:
            self._refuse(fault)
        elif end >= 0:
            self._stop_timer()
            whole, self._head = bytes(self._head), bytearray()
            self._receive_body(whole)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._timer = self.loop.call_later(LEFTOVER_WITHIN_S, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's word for what h11 cannot read; its own would break the answer that is already on its way."""
        self._refuse(_MALFORMED)

    def _should_upgrade(self) -> bool:
        return False

    def _fault(self, begin: int, end: int) -> Fault | None:
        if (end if end >= 0 else len(self._head)) > MAX_HEAD_BYTES:
            return _LARGE
        if end >= 0:
            return fault_of(bytes(self._head[: end + len(END)]))
        return _MALFORMED if has_bare_lf(self._head, begin) else None

    def _receive_body(self, data: bytes) -> None:
        """All that follows a head. What comes behind the request's end is another request, which is not served."""
        cycle = self.cycle
        if cycle is not None and cycle.response_complete and self.conn.their_state is h11.SEND_BODY:
            self._skip(data)
        elif cycle is not None and not cycle.response_complete and self.conn.their_state in _WHOLE:
            cycle.keep_alive = False
        else:
            super().data_received(data)
            if self.conn.trailing_data[0] and self.conn.their_state in _WHOLE:
                self.cycle.keep_alive = False

    def _skip(self, data: bytes) -> None:
        """The rest of a body whose answer was given before it arrived."""
        self.conn.receive_data(data)
        try:
            while (event := self.conn.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.EndOfMessage):
                    self._go_on()
                    return
        except h11.RemoteProtocolError:
            self.transport.abort()

    def _go_on(self) -> None:
        self._stop_timer()
        if self.conn.trailing_data[0] or self.conn.their_state is not h11.DONE:
            self.transport.close()
            return
        self.conn.start_next_cycle()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _refuse(self, fault: Fault) -> None:
        """Answer, where no answer has begun, and close."""
        self._stop_timer()
        logger.info("HTTP request refused: status=%d reason=%s", fault.status, fault.reason)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(answer_to(fault))
            self.transport.close()
        else:
            self.transport.abort()

    def _await_head(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEAD_WITHIN_S, self._refuse, _LATE)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def answer_to(fault: Fault) -> bytes:
    """A whole response, in the words Google's clients understand."""
    error = {"code": fault.status, "message": fault.reason, "errors": [{"reason": "invalid", "message": fault.reason}]}
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {fault.status} {http.HTTPStatus(fault.status).phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
