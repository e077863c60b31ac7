"""Where the sealed chunks of recordings lie: in the control database, a directory, or an S3 or GCS bucket.

`HOOPWEB_RECORDING_STORE` says where new ones go: empty (the database), `file:///directory`, `s3://bucket/prefix` or
`gs://bucket/prefix`. A row says where its chunk is by whether it holds it, so that both may be in use at once. Outside,
a chunk is an object named by the SHA-256 of its bytes, which are encrypted and bound to their place:
whoever owns the bucket can neither read nor change a result unseen. An object is durable before the row that names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

import obstore
from django.conf import settings
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from audit.domain.box import SealProblem
from audit.domain.chunks import Chunk
from audit.domain.object_store import StoreProblem, open_store
from audit.domain.replay import ReplayProblem
from audit.models import RecordingChunk

__all__ = ["ObjectChunks", "StoreProblem", "StoreUnavailable", "chunk_store", "outside_store"]

_AT_ONCE = 8  # objects on their way together: a bucket answers in tens of milliseconds
_LISTED = 1_000


class StoreUnavailable(ReplayProblem):
    """The store did not answer as one: that says nothing about whether what it keeps is intact."""


class ChunkStore(Protocol):
    """`put` returns what the row shall hold of each chunk; `get` raises SealProblem for what is missing or altered."""

    def put(self, chunks: Sequence[Chunk]) -> list[bytes | None]: ...

    def get(self, row: RecordingChunk) -> bytes: ...


class DatabaseChunks:
    """Chunks in the row itself: durable in the same commit as the row."""

    def put(self, chunks: Sequence[Chunk]) -> list[bytes | None]:
        return [chunk.data for chunk in chunks]

    def get(self, row: RecordingChunk) -> bytes:
        if row.data is None:
            raise SealProblem("the chunk is not in the database, and no store outside is configured")
        return bytes(row.data)


class ObjectChunks:
    """Chunks as objects of a bucket or files of a directory."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, chunks: Sequence[Chunk]) -> list[bytes | None]:
        """Raises StoreUnavailable unless every chunk is kept; what was kept by then is put again under its name."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._put, chunks))
        return [None] * len(chunks)

    def get(self, row: RecordingChunk) -> bytes:
        if row.data is not None:
            return bytes(row.data)
        try:
            data = bytes(_answered(lambda: self._store.get(_name(row.address)).bytes()))
        except FileNotFoundError:
            raise SealProblem(f"chunk {row.index} is not in the store") from None
        if hashlib.sha256(data).hexdigest() != row.address:
            raise SealProblem(f"chunk {row.index} in the store is not the one that was put there")
        return data

    def erase(self, addresses: Sequence[str]) -> None:
        """Remove the objects; one that is gone already is no problem. Raises StoreUnavailable."""
        names = [_name(address) for address in addresses]
        for low in range(0, len(names), _LISTED):
            _answered(lambda low=low: self._store.delete(names[low : low + _LISTED]))  # type: ignore[misc]

    def strays(self, *, older_than: timedelta = timedelta(days=1)) -> Iterator[list[str]]:
        """Addresses of objects no row names: their process was killed before its commit. A page at a time."""
        before = datetime.now(UTC) - older_than
        pages = iter(obstore.list(self._store, chunk_size=_LISTED))
        while page := _answered(lambda: next(pages, None)):
            found = [item["path"].rpartition("/")[2] for item in page if item["last_modified"] < before]
            named = set(RecordingChunk.objects.filter(address__in=found).values_list("address", flat=True))
            yield [address for address in found if address not in named and len(address) == 64]

    def _put(self, chunk: Chunk) -> None:
        _answered(lambda: self._store.put(_name(chunk.address), chunk.data))


def _answered(work: Callable[[], Any]) -> Any:
    """What the store says. A missing object is FileNotFoundError, everything else that fails StoreUnavailable."""
    try:
        return work()
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise StoreUnavailable(
            f"the store of recordings did not do what it was asked: {type(error).__name__}"
        ) from None


def _name(address: str) -> str:
    return f"{address[:2]}/{address}"


def chunk_store() -> DatabaseChunks | ObjectChunks:
    """The configured store. Raises StoreProblem."""
    outside = outside_store()
    return DatabaseChunks() if outside is None else outside


def outside_store() -> ObjectChunks | None:
    """The store outside the database, or None. Raises StoreProblem."""
    url = settings.HOOPWEB_RECORDING_STORE
    if not url:
        return None
    return _opened(
        url,
        settings.HOOPWEB_RECORDING_STORE_SECRET,
        settings.HOOPWEB_RECORDING_STORE_ENDPOINT,
        settings.HOOPWEB_RECORDING_STORE_REGION,
    )


@lru_cache(maxsize=4)
def _opened(url: str, secret: str, endpoint: str, region: str) -> ObjectChunks:
    opened = open_store(url, secret=secret, endpoint=endpoint, region=region, what="the store of recordings")
    return ObjectChunks(opened)
