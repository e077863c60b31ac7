"""What an approval is good for, as one keyed digest to find it by and one sealed copy to compare with.

The digest is an HMAC: parameters are often identifiers from a small domain, and a plain hash of a known statement with
an unknown SSN could be reversed by whoever reads the control database.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from approvals.domain.request import Binding
from audit.domain.sealing import seal, unseal

_BINDING, _TEXT = b"hoopweb/approvals/binding/1", b"hoopweb/approvals/text/1"
_REQUESTER = b"hoopweb/approvals/requester/1"
_OF_THE_STATEMENT = {"statement", "parameters", "parameter_types", "parameter_formats", "governed_as", "meaning"}


def canonical_form(binding: Binding) -> bytes:
    """Every field by name, as JSON with sorted keys: no two bindings share it, and a new field is covered unasked."""
    document = {field.name: _plain(getattr(binding, field.name)) for field in fields(binding)}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def binding_digest(binding: Binding) -> str:
    """Return the 64 hex digits a review and its grant are found by."""
    return _keyed(_BINDING, canonical_form(binding))


def requester_digest(binding: Binding) -> str:
    """Return what wider grants are found by: who, on which connection, as which role, under which rules."""
    kept = {field.name: _plain(getattr(binding, field.name)) for field in fields(binding)}
    document = {name: value for name, value in kept.items() if name not in _OF_THE_STATEMENT}
    return _keyed(_REQUESTER, json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def text_digest(text: str) -> str:
    """Return what stands for the exact text a reviewer saw, in forms and in links."""
    return _keyed(_TEXT, text.encode("utf-8", "surrogatepass"))


def seal_binding(binding: Binding, review_id: UUID) -> bytes:
    return seal(canonical_form(binding), context=f"review:{review_id}:binding")


def open_binding(sealed: bytes | memoryview, review_id: UUID) -> Binding:
    """Return the binding; raises when the bytes were altered or belong to another review."""
    document: dict[str, Any] = json.loads(unseal(bytes(sealed), context=f"review:{review_id}:binding"))
    parameters = tuple(None if value is None else bytes.fromhex(value) for value in document.pop("parameters"))
    lists: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
    return Binding(parameters=parameters, **lists)


def seal_text(text: str, *, review_id: UUID, part: str) -> bytes:
    return seal(text.encode("utf-8", "surrogatepass"), context=f"review:{review_id}:{part}")


def open_text(sealed: bytes | memoryview, *, review_id: UUID, part: str) -> str:
    return unseal(bytes(sealed), context=f"review:{review_id}:{part}").decode("utf-8", "surrogatepass")


def seal_reach(reach: dict[str, Any], *, grant_id: UUID, requester: str) -> bytes:
    """The wider grant's reach, tied to the grant and to whose it is."""
    document = json.dumps(reach, sort_keys=True, separators=(",", ":")).encode()
    return seal(document, context=f"grant:{grant_id}:{requester}")


def open_reach(sealed: bytes | memoryview, *, grant_id: UUID, requester: str) -> dict[str, Any]:
    reach: dict[str, Any] = json.loads(unseal(bytes(sealed), context=f"grant:{grant_id}:{requester}"))
    return reach


def with_statement(binding: Binding, text: str, *, meaning: str = "") -> Binding:
    """The binding a modified statement has when it is asked for by itself."""
    return replace(binding, statement=text, meaning=meaning)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [item.hex() if isinstance(item, bytes) else item for item in value]
    return value


def _keyed(purpose: bytes, message: bytes) -> str:
    key = str(settings.HOOPWEB_TOKEN_KEY)
    if not key:
        raise ImproperlyConfigured("HOOPWEB_TOKEN_KEY is missing, expected a secret")
    derived = hmac.digest(key.encode(), purpose, hashlib.sha256)
    return hmac.new(derived, message, hashlib.sha256).hexdigest()
