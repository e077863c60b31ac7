"""REST routes of reviews, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from approvals.api import (
    DecisionView,
    GrantsView,
    PolicyVersionsView,
    ReviewsView,
    ReviewView,
    RevokeView,
    SimulationView,
)
from approvals.emergency_api import EmergenciesView, EmergencyEndView, EmergencyFindingView, EmergencyView

urlpatterns = [
    path("reviews", ReviewsView.as_view(), name="api-reviews"),
    path("reviews/<uuid:review_id>", ReviewView.as_view(), name="api-review"),
    path("reviews/<uuid:review_id>/decision", DecisionView.as_view(), name="api-review-decision"),
    path("grants", GrantsView.as_view(), name="api-grants"),
    path("grants/<uuid:grant_id>/revoke", RevokeView.as_view(), name="api-grant-revoke"),
    path("policies/simulate", SimulationView.as_view(), name="api-policies-simulate"),
    path("policies/<str:name>/versions", PolicyVersionsView.as_view(), name="api-policy-versions"),
    path("emergencies", EmergenciesView.as_view(), name="api-emergencies"),
    path("emergencies/<uuid:access_id>", EmergencyView.as_view(), name="api-emergency"),
    path("emergencies/<uuid:access_id>/end", EmergencyEndView.as_view(), name="api-emergency-end"),
    path("emergencies/<uuid:access_id>/finding", EmergencyFindingView.as_view(), name="api-emergency-finding"),
]
