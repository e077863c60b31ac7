"""What the console's own pages share: the admin site's frame and the reading of query parameters."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest


def context_of(request: HttpRequest, *, title: str) -> dict[str, Any]:
    """The admin site's context (navigation, who is signed in) for a page with this title."""
    return {**admin.site.each_context(request), "title": title}


def offset_of(request: HttpRequest) -> int:
    raw = request.GET.get("offset", "0")
    return int(raw) if raw.isascii() and raw.isdecimal() and len(raw) < 9 else 0
