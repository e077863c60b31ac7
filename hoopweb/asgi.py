"""The control plane's ASGI application: HTTP through Django, WebSocket through Channels."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hoopweb.settings")
http_application = get_asgi_application()  # loads the apps, so it comes before anything that imports models

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from approvals.routing import websocket_urlpatterns as review_patterns  # noqa: E402
from gateway.api.routing import websocket_urlpatterns as gateway_patterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http_application,
        # A browser's session cookie must not serve another site's script: the Origin, where there is one, is checked.
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter([*review_patterns, *gateway_patterns]))),
    }
)
