"""What a document says about connections and groups that are not there: allowed, and most often a slip of the pen.

A masking rule over a mistyped connection masks nothing, and a policy that asks a mistyped group holds what nobody can
decide. Neither is wrong in itself (the connection may come with the next document), so it is told and not refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from django.contrib.auth.models import Group

from gateway.domain.configuration.schema import Document
from gateway.models import Connection

_EVERYWHERE = "*"


def unreached(document: Document) -> Iterator[str]:
    """A sentence for each name of the document that names nothing, once the document is in force.

    To be asked inside the transaction that writes the document, so that what it brings along counts.
    """
    connections = sorted(Connection.objects.values_list("name", flat=True))
    for title, rules in (
        ("access rule", document.access),
        ("masking rule", document.masking),
        ("policy", document.policies),
    ):
        for rule in rules or ():
            for glob in _naming_none(rule.connections, connections):
                yield f"{title} {rule.name}: there is no connection {glob}, so it says nothing about any (yet)"
    groups = set(Group.objects.values_list("name", flat=True))
    for policy in document.policies or ():
        asked = {asked if isinstance(asked, str) else asked.group for asked in policy.reviewers}
        for name in sorted({*asked, *policy.escalate_to} - groups):
            yield f"policy {policy.name}: there is no group {name}, so nobody in it can decide (yet)"


def _naming_none(globs: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    for glob in globs:
        if glob != _EVERYWHERE and not any(fnmatchcase(name, glob) for name in names):
            yield glob
