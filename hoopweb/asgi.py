"""The control plane's ASGI application: HTTP through Django, WebSocket through Channels, MCP through its SDK.

The MCP application has a lifespan, which the server must run (uvicorn does unless told `--lifespan off`).
"""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

from hoopweb.loading import nothing_thrown_away

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hoopweb.settings")
with nothing_thrown_away():
    http_application = get_asgi_application()  # loads the apps, so it comes before anything that imports models

    from channels.auth import AuthMiddlewareStack
    from channels.routing import ProtocolTypeRouter, URLRouter
    from channels.security.websocket import OriginValidator
    from django.conf import settings

    from approvals.routing import websocket_urlpatterns as review_patterns
    from gateway.api.routing import websocket_urlpatterns as gateway_patterns
    from gateway.mcp.server import is_mcp, mcp_application


class BrowserOriginValidator(OriginValidator):  # type: ignore[misc]
    """A browser's session cookie must not serve another site's script. What sends no Origin is no browser's page."""

    def valid_origin(self, parsed_origin: Any) -> bool:
        return parsed_origin is None or bool(self.validate_origin(parsed_origin))


mcp = mcp_application()


async def http(scope: Any, receive: Any, send: Any) -> None:
    """Two paths are the MCP SDK's, everything else is Django's."""
    application = mcp if is_mcp(scope["path"]) else http_application
    await application(scope, receive, send)


websocket_application = AuthMiddlewareStack(URLRouter([*review_patterns, *gateway_patterns]))
application = ProtocolTypeRouter(
    {
        "http": http,
        "lifespan": mcp,
        "websocket": BrowserOriginValidator(websocket_application, settings.ALLOWED_HOSTS),
    }
)
