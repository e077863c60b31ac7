"""Addresses of SCIM, below `/scim/v2/`. None ends with a slash, as the RFC has them."""

from __future__ import annotations

from django.urls import path

from gateway.api import scim

urlpatterns = [
    path("Users", scim.users),
    path("Users/<str:pk>", scim.user),
    path("Groups", scim.groups),
    path("Groups/<str:pk>", scim.group),
    path("ServiceProviderConfig", scim.configuration),
    path("ResourceTypes", scim.types),
    path("Schemas", scim.schema_list),
    path("<path:rest>", scim.elsewhere),
]
