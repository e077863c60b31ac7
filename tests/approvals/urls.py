"""The routes these tests need, wherever the whole site mounts them."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

admin.autodiscover()
urlpatterns = [
    path("admin/", admin.site.urls),
    path("reviews/", include("approvals.urls")),
    path("api/v1/", include("approvals.api_urls")),
]
