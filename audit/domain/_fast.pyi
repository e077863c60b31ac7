import mmap

from audit.domain.box import Sealer
from audit.domain.damage import Serving
from audit.domain.template import Filling, Template, Whole
from audit.live import LiveRecord
from audit.writer import AuditWriter

def fill_entry(body: tuple[bytes, ...], around: bytes, session: bytes, filling: Filling, sealer: Sealer) -> bytes: ...
def append_alike(writer: AuditWriter, template: Template, filling: Filling, most: int) -> bool: ...

class Alike:
    """The usual course of `audit.live.LiveRecord` in front of an `AuditWriter`."""

    def __init__(self, live: LiveRecord, writer: object, serving: Serving, most_told: int) -> None: ...
    def append(self, template: Template, filling: Filling, whole: Whole, begins: bool) -> bool:
        """`append_like` (`begins`) or `append_like_later`; False: nothing was done, and they have to be asked."""

def random_bytes(count: int) -> bytes: ...
def time_ordered_id(millis: int) -> str: ...
def forget_drawn() -> None: ...
def commitment_to(plaintext: bytes, salt: bytes) -> bytes: ...
def spell_entry(
    body: tuple[bytes, ...],
    values: tuple[bytes, ...],
    at_us: int,
    commitment: bytes,
    around: bytes,
    session: bytes,
    statement_id: str,
    ending: bytes,
    box: bytes,
) -> bytes: ...
def put_record(view: mmap.mmap, place: int, chain: bytes, payload: bytes) -> None: ...
