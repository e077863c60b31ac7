"""Pages of reviewers, below `/reviews/`."""

from __future__ import annotations

from django.urls import path

from approvals import emergency_views, simulator_views, slack_views, views

app_name = "approvals"
urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("<uuid:review_id>/", views.review, name="review"),
    path("<uuid:review_id>/analysis/", views.analysis, name="analysis"),
    path("grants/", views.grants, name="grants"),
    path("grants/<uuid:grant_id>/revoke/", views.revoke, name="revoke"),
    path("simulator/", simulator_views.simulator, name="simulator"),
    path("emergencies/", emergency_views.emergencies, name="emergencies"),
    path("emergencies/<uuid:access_id>/", emergency_views.emergency, name="emergency"),
    path("emergencies/<uuid:access_id>/texts/", emergency_views.texts, name="emergency-texts"),
    path("emergencies/<uuid:access_id>/end/", emergency_views.end, name="emergency-end"),
    path("mail/<str:token>/", views.link, name="link"),
    path("slack/<slug:name>/", slack_views.interaction, name="slack"),
]
