"""What every decoder of this protocol raises."""

from __future__ import annotations


class ProtocolViolation(ValueError):
    """The peer broke the protocol; the connection ends. The text never quotes the peer's bytes."""
