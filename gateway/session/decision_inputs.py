"""What decisions were made of goes to the database a moment after them, what has gathered by then in one go.

A statement nobody has seen before brings inputs nobody has seen before. Stored for itself, each took a thread, which
holds the interpreter while the statement's own answer comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from approvals.domain.inputs import Document
from approvals.domain.recorded_inputs import InputMemory, store_inputs
from approvals.domain.request import AccessRequest
from gateway.domain.threads import in_thread

logger = logging.getLogger(__name__)

GATHER_S = 0.1


class DecisionInputs:
    """Of one process. Inputs that could not be stored are stored when they are met again."""

    def __init__(self) -> None:
        self._memory = InputMemory()
        self._waiting: dict[str, Document] = {}  # by digest
        self._storing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def keep(self, request: AccessRequest, snapshot_version: int) -> str:
        """Return the digest of what is decided on, and have it stored soon unless it is already."""
        digest, document = self._memory.digest_of(request, snapshot_version)
        if document is not None:
            self._waiting[digest] = document
            if self._storing is None or self._storing.done():
                self._storing = asyncio.create_task(self._store(), name="decision-inputs")
        return digest

    async def close(self) -> None:
        """Return when everything that waited is stored, or could not be."""
        self._closing.set()
        if self._storing is not None:
            await self._storing

    async def _store(self) -> None:
        while self._waiting:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), GATHER_S)
            documents, self._waiting = self._waiting, {}
            try:
                await in_thread(store_inputs, documents)
            except Exception as error:  # every record still names them by digest
                for digest in documents:
                    self._memory.forget(digest)
                logger.warning("inputs of decisions not kept: count=%d error=%s", len(documents), type(error).__name__)
