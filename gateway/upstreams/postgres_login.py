"""Who we are, told to a PostgreSQL server: SCRAM anywhere, weaker methods inside TLS only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from gateway.protocols.postgres.frames import frame
from gateway.protocols.postgres.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    NO_TLS,
    SERVER_CANNOT,
    ScramClient,
    bound_to,
)
from gateway.upstreams.registry import UpstreamFailed


@dataclass(slots=True)
class Login:
    """The authentication exchange of one connection (message flow, "Start-up")."""

    certificate_digest: bytes  # of the server's certificate; empty without TLS
    is_secured: bool
    user: str
    password: str = field(repr=False)
    mechanism: str = ""  # of SASL, once one was chosen
    scram: ScramClient | None = None
    proven: bool = False

    def answer(self, body: bytes) -> bytes:
        """Return what answers an Authentication request; empty when nothing does."""
        code = int.from_bytes(body[:4], "big")
        rest = body[4:]
        match code:
            case 0:
                if self.scram is not None and not self.proven:
                    raise UpstreamFailed("the upstream skipped its own proof of identity")
                return b""
            case 3:
                self._only_inside_tls("a cleartext password")
                return frame(b"p", self.password.encode() + b"\0")
            case 5:
                self._only_inside_tls("an md5 password")
                return frame(b"p", _md5(self.user, self.password, rest[:4]) + b"\0")
            case 10:
                return self._begin_scram(rest)
            case 11 if self.scram is not None:
                return frame(b"p", self.scram.final(rest))
            case 12 if self.scram is not None:
                self.scram.verify(rest)
                self.proven = True
                return b""
        raise UpstreamFailed(f"the upstream asked for authentication method {code}, which is not supported")

    def _begin_scram(self, mechanisms: bytes) -> bytes:
        offered = mechanisms.decode("ascii", "replace").split("\0")
        digest = self.certificate_digest
        if MECHANISM_PLUS in offered and digest:
            mechanism, binding = MECHANISM_PLUS, bound_to(digest)
        elif MECHANISM in offered:
            mechanism, binding = MECHANISM, SERVER_CANNOT if digest else NO_TLS
        else:
            raise UpstreamFailed("the upstream offers no SASL mechanism this gateway knows")
        self.scram = ScramClient(self.password, binding=binding)
        self.mechanism = mechanism
        first = self.scram.first()
        return frame(b"p", mechanism.encode() + b"\0" + len(first).to_bytes(4, "big") + first)

    def _only_inside_tls(self, what: str) -> None:
        # Both let whoever listens, or whoever poses as the server, learn what is needed to log in.
        if not self.is_secured:
            raise UpstreamFailed(f"the upstream asked for {what} outside TLS")


def _md5(user: str, password: str, salt: bytes) -> bytes:
    """PostgreSQL's md5 method; weak, which is why it never runs outside TLS."""
    inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()
