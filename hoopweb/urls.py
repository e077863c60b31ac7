"""Every URL of the control plane."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from gateway.api import oauth
from hoopweb import identity_provider
from hoopweb.health import healthz, readyz
from hoopweb.metrics import metrics
from hoopweb.step_up import step_up

# Below /api/ an address that does not exist, and a fault of ours, are problem documents too.
handler404 = "hoopweb.openapi.not_found"
handler500 = "hoopweb.openapi.server_fault"

admin.autodiscover()

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/"), name="landing"),
    path("healthz", healthz),
    path("readyz", readyz),
    path("metrics", metrics),
    path("admin/console/", include("hoopweb.console.urls")),
    path("admin/", admin.site.urls),
    path("reviews/", include("approvals.urls")),
    path("api/v1/", include("approvals.api_urls")),
    path("api/v1/", include("gateway.api.urls")),
    path("scim/v2/", include("gateway.api.scim_urls")),
    path("oauth/token", oauth.token),
    path("oauth/authorize", oauth.authorize),
    path(".well-known/jwks.json", oauth.jwks),
    path(".well-known/oauth-authorization-server", oauth.metadata),
    path("step-up/", step_up),
    path("oidc/", include("mozilla_django_oidc.urls")),
    path("openid/", include((identity_provider.urlpatterns, "oidc_provider"))),
]
