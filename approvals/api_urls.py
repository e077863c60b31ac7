"""REST routes of reviews, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from approvals.api import (
    DecisionView,
    GrantsView,
    ReviewAnalysisView,
    ReviewsView,
    ReviewView,
    RevokeView,
)
from approvals.channel_api import ChannelsView, ChannelTestView, DeliveriesView, DeliveryAgainView
from approvals.emergency_api import EmergenciesView, EmergencyEndView, EmergencyFindingView, EmergencyView
from approvals.policy_api import PoliciesView, PolicyVersionsView, SimulationView

urlpatterns = [
    path("reviews", ReviewsView.as_view(), name="api-reviews"),
    path("reviews/<uuid:review_id>", ReviewView.as_view(), name="api-review"),
    path("reviews/<uuid:review_id>/decision", DecisionView.as_view(), name="api-review-decision"),
    path("reviews/<uuid:review_id>/analysis", ReviewAnalysisView.as_view(), name="api-review-analysis"),
    path("grants", GrantsView.as_view(), name="api-grants"),
    path("grants/<uuid:grant_id>/revoke", RevokeView.as_view(), name="api-grant-revoke"),
    path("policies", PoliciesView.as_view(), name="api-policies"),
    path("policies/simulate", SimulationView.as_view(), name="api-policies-simulate"),
    path("policies/<str:name>/versions", PolicyVersionsView.as_view(), name="api-policy-versions"),
    path("emergencies", EmergenciesView.as_view(), name="api-emergencies"),
    path("emergencies/<uuid:access_id>", EmergencyView.as_view(), name="api-emergency"),
    path("emergencies/<uuid:access_id>/end", EmergencyEndView.as_view(), name="api-emergency-end"),
    path("emergencies/<uuid:access_id>/finding", EmergencyFindingView.as_view(), name="api-emergency-finding"),
    path("channels", ChannelsView.as_view(), name="api-channels"),
    path("channels/<str:name>/test", ChannelTestView.as_view(), name="api-channel-test"),
    path("deliveries", DeliveriesView.as_view(), name="api-deliveries"),
    path("deliveries/<uuid:delivery_id>/send-again", DeliveryAgainView.as_view(), name="api-delivery-again"),
]
