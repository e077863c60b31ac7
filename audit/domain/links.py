"""The links of a journal's chain: keyed BLAKE2b of the previous link and a record, 16 bytes. Pure."""

from __future__ import annotations

import contextlib
import hashlib


class Links:
    """Under one key of 1 to 64 bytes, taken in once."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(key=key, digest_size=16)

    def link(self, previous: bytes, payload: bytes) -> bytes:
        """The link of `payload` behind the 16 bytes of `previous`."""
        keyed = self._keyed.copy()
        keyed.update(previous + payload)
        return keyed.digest()


LinksPython = Links
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._openssl import Links  # type: ignore[assignment]
