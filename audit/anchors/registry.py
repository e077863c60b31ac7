"""What each kind of anchor needs to be told: asked before an anchor is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from audit.anchors.bucket import BucketProblem, parse_bucket
from audit.anchors.cosignature import Witness
from audit.anchors.timestamp import TimestampProblem, read_roots
from audit.domain.note import NoteProblem
from audit.sinks.targets import TargetProblem, parse_target

if TYPE_CHECKING:
    from audit.models_delivery import Anchor


def anchor_problems(anchor: Anchor) -> dict[str, str]:
    """What is wrong, by field; nothing when it may be saved."""
    check = _CHECKS.get(anchor.kind)
    return check(anchor) if check is not None else {}


def _url(anchor: Anchor, transport: str) -> dict[str, str]:
    try:
        found = parse_target(anchor.url).transport
    except TargetProblem as problem:
        return {"url": str(problem)}
    return {} if found == transport else {"url": f"{anchor.kind} goes over {transport}, not {found}"}


def _rfc3161(anchor: Anchor) -> dict[str, str]:
    try:
        read_roots(anchor.certificate)
    except TimestampProblem as problem:
        return {"certificate": str(problem)}
    return _url(anchor, "http")


def _witness(anchor: Anchor) -> dict[str, str]:
    try:
        Witness.parse(anchor.certificate)
    except NoteProblem as problem:
        return {"certificate": str(problem)}
    return _url(anchor, "http")


def _mail(anchor: Anchor) -> dict[str, str]:
    if not isinstance(anchor.recipients, list) or not anchor.recipients:
        return {"recipients": "expected at least one address"}
    try:
        for address in anchor.recipients:
            validate_email(address)
    except ValidationError:
        return {"recipients": "expected mail addresses"}
    return {}


def _directory(anchor: Anchor) -> dict[str, str]:
    return _url(anchor, "file")


def _bucket(anchor: Anchor) -> dict[str, str]:
    try:
        parse_bucket(anchor.url)
    except (BucketProblem, TargetProblem) as problem:
        return {"url": str(problem)}
    return {}


_CHECKS: Mapping[str, Callable[[Anchor], dict[str, str]]] = {
    "rfc3161": _rfc3161,
    "witness": _witness,
    "mail": _mail,
    "directory": _directory,
    "bucket": _bucket,
}
