"""Lists over REST, a page at a time (`limit`, `offset`)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView


class Pages(LimitOffsetPagination):
    """A hundred rows unless asked otherwise, and never more than five hundred."""

    default_limit, max_limit = 100, 500


def page_of(rows: QuerySet[Any], view: APIView, request: Request, serializer: type[Serializer[Any]]) -> Response:
    """The page of `rows` that was asked for, each as `serializer` says it."""
    pages = Pages()
    page = pages.paginate_queryset(rows, request, view=view)
    return pages.get_paginated_response(serializer(page, many=True).data)
