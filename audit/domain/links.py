"""The links of a journal's chain: HMAC-SHA-256 of the previous link and a record, its first 16 bytes. Pure."""

from __future__ import annotations

import contextlib
import hmac

LINK_BYTES = 16


class Links:
    """Under one key of 1 to 64 bytes."""

    def __init__(self, key: bytes) -> None:
        if not 1 <= len(key) <= 64:
            raise ValueError(f"a key of {len(key)} bytes, expected 1 to 64")
        self._key = key

    def link(self, previous: bytes, payload: bytes) -> bytes:
        """The link of `payload` behind the 16 bytes of `previous`."""
        if len(previous) != LINK_BYTES:
            raise ValueError(f"a link has {LINK_BYTES} bytes")
        return hmac.digest(self._key, previous + payload, "sha256")[:LINK_BYTES]


LinksPython = Links
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._openssl import Links  # type: ignore[assignment]
