from collections.abc import Sequence

from audit.domain.following import Row

def follow_rows(
    rows: Sequence[Row], leaf: bytes, size: int, nodes: tuple[bytes, ...]
) -> tuple[int, bytes, tuple[bytes, ...]]: ...
