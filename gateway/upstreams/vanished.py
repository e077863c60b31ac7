"""Peers that vanish: a machine that lost its power, a way that was cut. Neither an end nor a reset comes from there.

Silence is asked about by TCP's own keepalive, which is not sent while something waits to be acknowledged: that is sent
again and again for a quarter of an hour (`tcp_retries2`), and a transaction's locks would be kept for as long.
TCP_USER_TIMEOUT would be shorter, and would also end a peer that is there and merely does not read, such as a pager
over a long result. So it is looked at here whether what was sent is still answered.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

# What is silent is given up within two minutes, also while a statement is held or runs and nothing is sent.
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 60, 15, 4
VANISHED_AFTER_S = 120
LOOK_EVERY_S = 30
# A peer that does not read is probed every two minutes at least, and answers: two probes without an answer, or two
# repetitions, are what one that is there does not leave.
_UNANSWERED = 2
# struct tcp_info of Linux: two counts of a byte, and milliseconds since anything was acknowledged.
_REPEATED, _PROBED, _SILENT_MS, _INFO_BYTES = 2, 3, slice(56, 60), 104


def keep_alive(sock: Any) -> None:
    """Have the system ask a silent peer whether it is there. `sock`: an event loop's stand-in for one will do."""
    if not _is_tcp(sock):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def has_vanished(sock: Any) -> bool:
    """Whether what was sent has been answered by nothing for `VANISHED_AFTER_S`. Always False where nobody can say."""
    if not hasattr(socket, "TCP_INFO") or not _is_tcp(sock):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:  # closed meanwhile
        return False
    silent_ms = int.from_bytes(info[_SILENT_MS], sys.byteorder)
    return max(info[_REPEATED], info[_PROBED]) >= _UNANSWERED and silent_ms >= VANISHED_AFTER_S * 1000


def _is_tcp(sock: Any) -> bool:
    return sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}
