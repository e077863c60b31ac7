"""Pages of reviewers, below `/reviews/`."""

from __future__ import annotations

from django.urls import path

from approvals import views

app_name = "approvals"
urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("<uuid:review_id>/", views.review, name="review"),
    path("<uuid:review_id>/analysis/", views.analysis, name="analysis"),
    path("grants/", views.grants, name="grants"),
    path("grants/<uuid:grant_id>/revoke/", views.revoke, name="revoke"),
    path("mail/<str:token>/", views.link, name="link"),
]
