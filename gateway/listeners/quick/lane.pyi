from collections.abc import Callable

from gateway.listeners.postgres_exchanges import ExtendedExchange, SimpleExchange, TemplatedExchange
from gateway.listeners.postgres_names import Prepared
from gateway.listeners.postgres_plans import Names as Meant
from gateway.listeners.postgres_session import ClientSession
from gateway.listeners.quick.sparing import Sparing
from gateway.protocols.postgres.express import ExtendedRequest
from gateway.protocols.postgres.server import Field
from gateway.session.known import KnownStatement
from gateway.session.recurring import Occurrence, Recurring

class QuickLane:
    @property
    def sparing(self) -> Sparing: ...
    def __init__(
        self,
        session: ClientSession,
        queries: dict[bytes, Recurring],
        texts: dict[tuple[bytes, tuple[int, ...]], Recurring],
        unfold: Callable[
            [Occurrence, ExtendedRequest | None, Prepared | None, bool, bool],
            SimpleExchange | TemplatedExchange | ExtendedExchange,
        ],
        keep_portal: Callable[[bytes, Prepared, KnownStatement, tuple[Field, ...], Meant | None], None],
        otherwise: Callable[[bytes], bool],
    ) -> None: ...
    def serve(self, data: bytes) -> bool: ...
    def request(self, data: bytes) -> bool: ...
    def answer(self, data: bytes) -> bool: ...
    def at_rest(self) -> bool: ...
