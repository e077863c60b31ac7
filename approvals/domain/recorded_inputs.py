"""Keeping decisions' inputs without the data path waiting: each distinct one is stored once, by who saw it first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from approvals.domain.inputs import Document, input_digest, input_document
from approvals.domain.request import AccessRequest
from approvals.models import DecisionInput

MAX_REMEMBERED = 4_096


class InputMemory:
    """Which inputs this process has spelled and stored. Not for several threads."""

    def __init__(self) -> None:
        # By identity of the analysis, which the entry keeps alive; a version of the rules may touch other columns.
        self._by_identity: dict[tuple[int, int, str], tuple[object, str]] = {}
        self._stored: dict[str, None] = {}

    def digest_of(self, request: AccessRequest, version: int) -> tuple[str, Document | None]:
        """(digest, document), the document only when it has to be stored."""
        key = (id(request.analysis), version, request.principal.subject)
        known = self._by_identity.get(key)
        if known is not None and known[0] == (request.analysis, request.principal):
            return known[1], None
        document = input_document(request)
        digest = input_digest(document)
        _remember(self._by_identity, key, ((request.analysis, request.principal), digest))
        if digest in self._stored:
            return digest, None
        _remember(self._stored, digest, None)
        return digest, document

    def forget(self, digest: str) -> None:
        """Storing it failed: the next statement tries again."""
        self._stored.pop(digest, None)
        self._by_identity = {key: known for key, known in self._by_identity.items() if known[1] != digest}


def store_inputs(documents: Mapping[str, Document]) -> None:
    """Keep documents by digest; those that are there already stay as they are."""
    rows = [DecisionInput(digest=digest, document=document) for digest, document in documents.items()]
    DecisionInput.objects.bulk_create(rows, ignore_conflicts=True)


def _remember(memory: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= MAX_REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = value
