"""Data sent along with a load job: in one multipart request, or piece by piece ("resumable").

Nothing goes to the service before the whole is here and its load is permitted, so an upload is kept in memory: bounded
each, for one principal and for the process, and forgotten when nobody goes on with it. It is its owner's alone.

Sources: "Upload data" of the BigQuery documentation; RFC 2387 (multipart/related); RFC 9110 §14.4 (Content-Range).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.listeners.http_bodies import MAX_UPLOAD_BYTES, object_of
from gateway.protocols.bigquery.errors import BigQueryError

MAX_BYTES_EACH = 128 * 1024 * 1024  # of one principal on one connection
MAX_BYTES_ALL = 256 * 1024 * 1024
MAX_UPLOADS_EACH = 20
FORGET_S = 600.0
_BOUNDARY = re.compile(r'boundary="?([^";]{1,70})"?', re.IGNORECASE)
_RANGE = re.compile(r"bytes (?:(\d{1,15})-(\d{1,15})|\*)/(?:(\d{1,15})|\*)")

Owner = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Upload:
    """`body` is the job's resource, as it came first."""

    owner: Owner
    body: Mapping[str, Any]
    path: str
    content: bytearray = field(default_factory=bytearray, repr=False)
    touched: float = field(default_factory=time.monotonic)


class Uploads:
    """What is on its way, in this process."""

    def __init__(self) -> None:
        self._uploads: dict[str, Upload] = {}

    def begin(self, owner: Owner, path: str, body: Mapping[str, Any]) -> str:
        """Returns the id the client goes on with. Raises BigQueryError."""
        self._forget()
        if sum(1 for upload in self._uploads.values() if upload.owner == owner) >= MAX_UPLOADS_EACH:
            raise BigQueryError("quotaExceeded", f"you have {MAX_UPLOADS_EACH} uploads on their way already")
        upload_id = secrets.token_urlsafe(24)
        self._uploads[upload_id] = Upload(owner, body, path)
        return upload_id

    def find(self, owner: Owner, path: str, upload_id: str) -> Upload:
        self._forget()
        upload = self._uploads.get(upload_id)
        if upload is None or upload.owner != owner or upload.path != path:
            raise BigQueryError("notFound", "Not found: the upload; begin again")
        return upload

    def holds(self, upload_id: str) -> bool:
        return upload_id in self._uploads

    def add(self, upload: Upload, part: bytes) -> None:
        """Raises BigQueryError where the whole gets too large."""
        own = sum(len(each.content) for each in self._uploads.values() if each.owner == upload.owner)
        every = sum(len(each.content) for each in self._uploads.values())
        if len(upload.content) + len(part) > MAX_UPLOAD_BYTES:
            raise BigQueryError("tooLarge", f"an upload has {MAX_UPLOAD_BYTES} bytes at most")
        if own + len(part) > MAX_BYTES_EACH or every + len(part) > MAX_BYTES_ALL:
            raise BigQueryError("quotaExceeded", "too much is being uploaded at once; finish other uploads first")
        upload.content += part
        upload.touched = time.monotonic()

    def end(self, upload_id: str) -> None:
        self._uploads.pop(upload_id, None)

    def _forget(self) -> None:
        old = time.monotonic() - FORGET_S
        for upload_id in [name for name, upload in self._uploads.items() if upload.touched < old]:
            del self._uploads[upload_id]


@dataclass(frozen=True, slots=True)
class Span:
    """A Content-Range. `start` is None where the client only asks how far it got; `total` where it does not know."""

    start: int | None
    total: int | None


def read_span(header: str, length: int) -> Span:
    """Raises BigQueryError for what is no range of the bytes that came."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None:
        raise BigQueryError("invalid", "Content-Range is malformed")
    start, end, total = (int(group) if group is not None else None for group in found.groups())
    if start is not None and end is not None and end - start + 1 != length:
        raise BigQueryError("invalid", "Content-Range does not fit the body")
    if (start is None and length) or (total is not None and end is not None and end >= total):
        raise BigQueryError("invalid", "Content-Range does not fit the body")
    return Span(start, total)


def read_multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The job's resource and the data. Raises BigQueryError.

    Lines end as the first one does: google-api-python-client, and with it `bq`, writes LF alone.
    """
    found = _BOUNDARY.search(content_type) if content_type.lower().startswith("multipart/") else None
    if found is None:
        raise BigQueryError("invalid", "the content type is not multipart/related with a boundary")
    delimiter = b"--" + found.group(1).encode()
    end = b"\r\n" if body.partition(delimiter)[2].startswith(b"\r\n") else b"\n"
    parts = (end + body).split(end + delimiter)
    if len(parts) != 4 or not parts[3].startswith(b"--"):
        raise BigQueryError("invalid", "the body has not exactly two parts")
    head, data = (part.partition(end + end)[2] for part in parts[1:3])
    return object_of(head), data
