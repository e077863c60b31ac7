"""Would what agents are shown of a connection be de-identified by the Safe Harbor method? Identifier by identifier.

Of every column the database has (as the data plane sees it now), else of those that were read lately.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils import timezone

from gateway.api import dataplane
from gateway.models import Connection
from hoopweb.console.catalogue import column_names
from hoopweb.console.coverage import columns_read, reference_of
from hoopweb.console.pages import context_of
from masking.domain.load import load_masking_rules
from masking.domain.rules import rules_for
from masking.domain.safe_harbor import IDENTIFIERS, Finding, Identifier, judge
from masking.domain.tags import confirmed_classes, dismissed_columns

LATELY = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Line:
    """One identifier with what becomes of the columns that hold it."""

    identifier: Identifier
    findings: tuple[Finding, ...]

    @property
    def satisfied(self) -> bool:
        return all(finding.satisfied for finding in self.findings)


def safe_harbor(request: HttpRequest, name: str) -> HttpResponse:
    if not request.user.has_perms(("masking.view_maskingrule", "gateway.view_connection")):
        raise PermissionDenied
    connection = get_object_or_404(Connection, name=name)
    columns, whole = _columns(request, connection.name)
    findings = findings_of(connection.name, columns)
    context = context_of(request, title=f"De-identification of {connection.name}") | {
        "connection": connection,
        "whole": whole,
        "days": LATELY.days,
        "looked_at": len(columns),
        "lines": [line for line in lines_of(findings) if line.findings],
        "absent": [line.identifier for line in lines_of(findings) if not line.findings],
        "open_columns": sum(not finding.satisfied for finding in findings),
        "exempt": sorted({group for finding in findings for group in finding.exempt}),
    }
    return TemplateResponse(request, "console/safe_harbor.html", context)


def findings_of(name: str, columns: list[str]) -> list[Finding]:
    known = [column for column in columns if reference_of(column) is not None]
    return judge(
        known,
        rules=rules_for(load_masking_rules(), name),
        tagged=confirmed_classes(name),
        dismissed=dismissed_columns(name),
    )


def lines_of(findings: list[Finding]) -> list[Line]:
    return [Line(one, tuple(found for found in findings if found.identifier is one)) for one in IDENTIFIERS]


def _columns(request: HttpRequest, name: str) -> tuple[list[str], bool]:
    """The columns, and whether they are all there are."""
    try:
        return column_names(request, name), True
    except (dataplane.DataPlaneRefused, dataplane.DataPlaneUnavailable):
        return [read.column for read in columns_read(timezone.now() - LATELY, [name]).get(name, ())], False
