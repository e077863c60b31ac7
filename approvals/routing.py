"""WebSocket addresses of the review pages."""

from __future__ import annotations

from django.urls import path

from approvals.consumers import InboxConsumer, ReviewConsumer

websocket_urlpatterns = [
    path("ws/v1/reviews/", InboxConsumer.as_asgi()),
    path("ws/v1/reviews/<uuid:review_id>/", ReviewConsumer.as_asgi()),
]
