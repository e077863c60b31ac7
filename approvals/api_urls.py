"""REST routes of reviews, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from approvals.api import DecisionView, ReviewsView, ReviewView

urlpatterns = [
    path("reviews", ReviewsView.as_view(), name="api-reviews"),
    path("reviews/<uuid:review_id>", ReviewView.as_view(), name="api-review"),
    path("reviews/<uuid:review_id>/decision", DecisionView.as_view(), name="api-review-decision"),
]
