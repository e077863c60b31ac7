import mmap
from collections.abc import Callable, Collection, Mapping, Sequence

from audit.domain.chain import Leaf, Prepared
from audit.domain.entry import Entry, Json
from audit.domain.journaled import Reading
from audit.domain.links import Links
from audit.domain.projection import Records
from audit.domain.statement_rows import Change, Said

def read_record(view: mmap.mmap, at: int, links: Links, chain: bytes, place: int) -> tuple[bytes, bytes] | None: ...
def split_entry(payload: bytes) -> tuple[bytes, bytes, bytes, int, bytes, bytes, bytes, bytes]: ...
def unpack_with(reading: Reading, payload: bytes) -> Prepared: ...
def link_entries(
    prev: bytes, size: int, nodes: tuple[bytes, ...], prepared: Sequence[Prepared]
) -> tuple[list[Leaf], tuple[bytes, ...]]: ...
def leaf_row(
    head: bytes,
    seq: int,
    at_us: int,
    digest: bytes,
    prev: bytes,
    canonical: bytes,
    session_id: str,
    statement_id: str,
    shared: bytes,
) -> bytes: ...
def leaf_rows(
    head: bytes, leaves: Sequence[Leaf], prepared: Sequence[Prepared], cells: Callable[[Entry], bytes]
) -> list[bytes]: ...
def box_rows(head: bytes, leaves: Sequence[Leaf], prepared: Sequence[Prepared]) -> list[bytes]: ...
def fold(
    records: Records,
    leaves: Sequence[Leaf],
    prepared: Sequence[Prepared],
    changes: Collection[str],
    change_of: Callable[[str, Mapping[str, Json]], Change],
) -> list[tuple[Leaf, Prepared]]: ...
def rows_to_copy(
    head: bytes,
    statements: Mapping[str, Sequence[Said]],
    known: Collection[str],
    other: Callable[[str, Sequence[Said]], bytes],
) -> list[bytes]: ...
