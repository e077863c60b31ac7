"""WebSocket routes of the gateway."""

from __future__ import annotations

from django.urls import path

from gateway.api.consumers import EventsConsumer, StatementsConsumer

websocket_urlpatterns = [
    path("ws/v1/connections/<slug:name>/", StatementsConsumer.as_asgi()),
    path("ws/v1/events/", EventsConsumer.as_asgi()),
]
