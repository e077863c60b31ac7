"""REST routes of the gateway, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from gateway.api.access import ConnectionsView, TicketsView, TokensView
from gateway.api.sessions import KillSessionView, SessionsView, SessionView
from gateway.api.statements import StatementsView, StatementView
from gateway.api.subjects import AccountingView, SubjectsSeenView

urlpatterns = [
    path("connections", ConnectionsView.as_view(), name="api-connections"),
    path("connections/<slug:name>/statements", StatementsView.as_view(), name="api-statements"),
    path("statements/<uuid:statement_id>", StatementView.as_view(), name="api-statement"),
    path("sessions", SessionsView.as_view(), name="api-sessions"),
    path("sessions/<str:pk>", SessionView.as_view(), name="api-session"),
    path("sessions/<str:pk>/kill", KillSessionView.as_view(), name="api-session-kill"),
    path("subjects/accounting", AccountingView.as_view(), name="api-subjects-accounting"),
    path("subjects/seen", SubjectsSeenView.as_view(), name="api-subjects-seen"),
    path("tickets", TicketsView.as_view(), name="api-tickets"),
    path("tokens", TokensView.as_view(), name="api-tokens"),
    path("schema/", SpectacularAPIView.as_view(permission_classes=[]), name="api-schema"),
]
