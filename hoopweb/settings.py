"""Django settings, in labelled sections, production-safe by default: debugging off, no default secret.

Everything comes from the environment through `hoopweb.env`. The embedded stack writes its generated secrets below
`HOOPWEB_HOME/secrets`, where `env_secret` finds them; a deployment sets variables or `_FILE` pointers instead.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from approvals.domain.role_names import SEPARATE, parse_role_conflicts
from hoopweb.env import EnvironmentProblem, env_bool, env_int, env_list, env_path, env_secret, env_str

BASE_DIR = Path(__file__).resolve().parent.parent

# --- State and ports -------------------------------------------------------------------------------------------------
HOOPWEB_HOME = env_path("HOME", BASE_DIR / ".hoopweb")
# Where data-plane processes keep entries the log has not taken in yet: a disk of their own serves them best.
HOOPWEB_JOURNAL_DIR = env_path("JOURNAL_DIR", HOOPWEB_HOME / "journal")
HOOPWEB_WEB_PORT = env_int("WEB_PORT", 8000, low=1, high=65535)
HOOPWEB_POSTGRES_PORT = env_int("POSTGRES_PORT", 6432, low=1, high=65535)
HOOPWEB_MYSQL_PORT = env_int("MYSQL_PORT", 6433, low=1, high=65535)
HOOPWEB_HTTP_PORT = env_int("HTTP_PORT", 8010, low=1, high=65535)
HOOPWEB_LISTEN = env_str("LISTEN", "127.0.0.1")  # address of the data plane's listeners
HOOPWEB_WEB_URL = env_str("WEB_URL", f"http://127.0.0.1:{HOOPWEB_WEB_PORT}").rstrip("/")
HOOPWEB_HTTP_URL = env_str("HTTP_URL", f"http://127.0.0.1:{HOOPWEB_HTTP_PORT}").rstrip("/")
HOOPWEB_TLS_CERT_FILE = env_str("TLS_CERT_FILE")
HOOPWEB_TLS_KEY_FILE = env_str("TLS_KEY_FILE")
HOOPWEB_TLS_CLIENT_CA_FILE = env_str("TLS_CLIENT_CA_FILE")
# The statement relay's own port, in plaintext on the inner network. 0: on the HTTP port, where clients need no TLS.
HOOPWEB_RELAY_PORT = env_int("RELAY_PORT", HOOPWEB_HTTP_PORT + 1 if HOOPWEB_TLS_CERT_FILE else 0, low=0, high=65535)
# Where the control plane reaches it.
HOOPWEB_RELAY_URL = env_str(
    "RELAY_URL", f"http://127.0.0.1:{HOOPWEB_RELAY_PORT}" if HOOPWEB_RELAY_PORT else HOOPWEB_HTTP_URL
).rstrip("/")

# --- Secrets: from the environment, a _FILE pointer, or the embedded stack's own directory; never a default -----------
SECRET_KEY = env_secret("SECRET_KEY", home=HOOPWEB_HOME)
# Sealed box (X25519): anyone may seal an upstream credential, only the data plane has the private half.
HOOPWEB_CREDENTIAL_PUBLIC_KEY = env_secret("CREDENTIAL_PUBLIC_KEY", home=HOOPWEB_HOME)
HOOPWEB_CREDENTIAL_PRIVATE_KEYS = env_secret("CREDENTIAL_PRIVATE_KEYS", home=HOOPWEB_HOME)  # newest first, commas
# Evidence (statement text, recordings): AES-256-GCM keys, newest first, commas.
HOOPWEB_EVIDENCE_KEYS = env_secret("EVIDENCE_KEYS", home=HOOPWEB_HOME)
# Where recordings' sealed chunks go: empty (the control database), file:///directory, s3://bucket/prefix, gs://bucket/….
HOOPWEB_RECORDING_STORE = env_str("RECORDING_STORE")
HOOPWEB_RECORDING_STORE_ENDPOINT = env_str("RECORDING_STORE_ENDPOINT")  # an S3-compatible service of your own
HOOPWEB_RECORDING_STORE_REGION = env_str("RECORDING_STORE_REGION")
HOOPWEB_RECORDING_STORE_SECRET = env_secret("RECORDING_STORE_SECRET", home=HOOPWEB_HOME)
# The log's checkpoint signing key (Ed25519 seed) and the key of masking tokens and commitments.
HOOPWEB_LOG_SIGNING_KEY = env_secret("LOG_SIGNING_KEY", home=HOOPWEB_HOME)
HOOPWEB_TOKEN_KEY = env_secret("TOKEN_KEY", home=HOOPWEB_HOME)
# The token service's signing keys (JWK set, private); public halves at /.well-known/jwks.json.
HOOPWEB_ISSUER_KEYS = env_secret("ISSUER_KEYS", home=HOOPWEB_HOME)
# Shared by the control plane and the data plane for the statement relay.
HOOPWEB_RELAY_KEY = env_secret("RELAY_KEY", home=HOOPWEB_HOME)

# --- Safety ----------------------------------------------------------------------------------------------------------
DEBUG = env_bool("DEBUG", default=False)
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", ("127.0.0.1", "localhost", "[::1]"))
_SECURE = HOOPWEB_WEB_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = _SECURE
SECURE_HSTS_SECONDS = 31_536_000 if _SECURE else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env_bool("BEHIND_PROXY", default=False) else None
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = env_int("SESSION_ABSOLUTE_S", 8 * 3600)
# Failed sign-ins and token requests in five minutes, before whoever tries must wait (gateway.domain.throttle).
HOOPWEB_FAILURES_PER_NAME = env_int("FAILURES_PER_NAME", 10, low=1)
HOOPWEB_FAILURES_PER_ADDRESS = env_int("FAILURES_PER_ADDRESS", 200, low=1)
HOOPWEB_SESSION_IDLE_S = env_int("SESSION_IDLE_S", 30 * 60, low=60)
X_FRAME_OPTIONS = "DENY"
CSRF_TRUSTED_ORIGINS = [HOOPWEB_WEB_URL]
SECURE_REFERRER_POLICY = "same-origin"

# --- Applications ----------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    # The console's modules are loaded with the URLs (hoopweb/urls.py): gateways, workers and commands do without.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "channels",
    "oidc_provider",
    "mozilla_django_oidc",
    "hoopweb",
    "gateway",
    "approvals",
    "masking",
    "audit",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "hoopweb.csp.ContentSecurityPolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "hoopweb.signing_in.SlowGuessing",
    "hoopweb.signing_in.AutomaticLogOff",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "hoopweb.urls"
ASGI_APPLICATION = "hoopweb.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "hoopweb.auth.sign_in_context",
                "hoopweb.step_up.step_up_context",
            ],
        },
    },
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["hoopweb.formats"]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Sign-in of people: local accounts, and OpenID Connect (the embedded provider unless OIDC_ISSUER names one) -------
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "hoopweb.auth.PeopleBackend"]
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/admin/"
HOOPWEB_OIDC_EMBEDDED = not env_str("OIDC_ISSUER")
# Deployment files name these and leave them empty: that is as if they did not.
OIDC_OP_ISSUER = env_str("OIDC_ISSUER") or f"{HOOPWEB_WEB_URL}/openid"
OIDC_OP_AUTHORIZATION_ENDPOINT = env_str("OIDC_AUTHORIZATION_ENDPOINT") or f"{OIDC_OP_ISSUER}/authorize"
OIDC_OP_TOKEN_ENDPOINT = env_str("OIDC_TOKEN_ENDPOINT") or f"{OIDC_OP_ISSUER}/token"
OIDC_OP_JWKS_ENDPOINT = env_str("OIDC_JWKS_URI") or f"{OIDC_OP_ISSUER}/jwks"
OIDC_OP_USER_ENDPOINT = ""  # never asked: the verified ID token is enough
OIDC_RP_CLIENT_ID = env_str("OIDC_CLIENT_ID") or "hoopweb-console"
# Both ends of the embedded provider are this process: its client secret is derived, not configured.
OIDC_RP_CLIENT_SECRET = env_secret("OIDC_CLIENT_SECRET") or (
    hmac.new(SECRET_KEY.encode(), b"embedded oidc client secret", "sha256").hexdigest() if SECRET_KEY else ""
)
OIDC_RP_SIGN_ALGO = env_str("OIDC_SIGN_ALGORITHM", "RS256")
OIDC_RP_SCOPES = "openid profile email"
OIDC_USE_PKCE = True
OIDC_PKCE_CODE_CHALLENGE_METHOD = "S256"
OIDC_CREATE_USER = True  # hoopweb.auth decides; the embedded provider never creates one
OIDC_TIMEOUT = 5
HOOPWEB_OIDC_GROUPS_CLAIM = env_str("OIDC_GROUPS_CLAIM", "groups")  # empty: groups come from here or by SCIM
# A decision needs somebody who proved themselves so many seconds ago at most; 0: whoever is signed in.
HOOPWEB_STEP_UP_S = env_int("STEP_UP_S", 0 if HOOPWEB_OIDC_EMBEDDED else 900, low=0)
HOOPWEB_OIDC_EXTERNAL_ID_CLAIM = env_str("OIDC_EXTERNAL_ID_CLAIM", "sub")  # what SCIM calls externalId
# Roles nobody has together (approvals.domain.role_conflicts), and whether that is enforced or only shown.
try:
    HOOPWEB_ROLE_CONFLICTS = parse_role_conflicts(env_list("ROLE_CONFLICTS", SEPARATE))
except ValueError as problem:
    raise EnvironmentProblem(f"HOOPWEB_ROLE_CONFLICTS: {problem}") from None
HOOPWEB_ROLE_CONFLICTS_ENFORCED = env_bool("ROLE_CONFLICTS_ENFORCED", default=True)
OIDC_AUTHENTICATE_CLASS = "hoopweb.step_up.RequestView"
OIDC_CALLBACK_CLASS = "hoopweb.signing_in.Callback"
# The embedded provider's own settings (django-oidc-provider); see docs/decisions/0002.
SITE_URL = HOOPWEB_WEB_URL
OIDC_CODE_EXPIRE = 60
OIDC_TOKEN_EXPIRE = 60
OIDC_IDTOKEN_EXPIRE = 120
OIDC_IDTOKEN_SUB_GENERATOR = "hoopweb.identity_provider.subject_of"
OIDC_IDTOKEN_PROCESSING_HOOK = "hoopweb.identity_provider.add_claims"

# --- Console ---------------------------------------------------------------------------------------------------------
UNFOLD = {
    "SITE_TITLE": "hoopweb",
    "SITE_HEADER": "hoopweb",
    "SITE_SUBHEADER": "governed access to health data",
    "SITE_URL": "/admin/",
    "SITE_SYMBOL": "shield_lock",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}hoopweb/icon.svg"}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "hoopweb.dashboard.dashboard",
    "STYLES": [f"{STATIC_URL}hoopweb/colors.css", f"{STATIC_URL}hoopweb/console.css"],
    "SCRIPTS": [f"{STATIC_URL}hoopweb/labels.js"],
    # The colours are in colors.css: the theme would write them into each page, and no page has a style of its own.
    "COLORS": "hoopweb.admin.no_colours",
    "SIDEBAR": {"show_search": True, "navigation": "hoopweb.admin.navigation"},
}

# --- Control database and Redis --------------------------------------------------------------------------------------


# A server whose host is gone answers nothing, and TCP by itself waits for two hours: after two minutes its successor is
# looked for.
_NOTICES_SILENCE = {
    "keepalives_idle": "60",
    "keepalives_interval": "15",
    "keepalives_count": "4",
    "tcp_user_timeout": "120000",
}


def control_database(url: str) -> dict[str, object]:
    """Django's form of `postgresql://user:password@host:port/name?sslmode=…`."""
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/") or "hoopweb",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or 5432),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": _NOTICES_SILENCE | {key: values[0] for key, values in parse_qs(parts.query).items()},
    }


HOOPWEB_DATABASE_URL = env_secret("DATABASE_URL", home=HOOPWEB_HOME)
DATABASES = {"default": control_database(HOOPWEB_DATABASE_URL)}
HOOPWEB_REDIS_URL = env_secret("REDIS_URL", home=HOOPWEB_HOME)
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # No read timeout: redis-py's default of 5 s is exactly as long as the layer's own blocking read.
        "CONFIG": {
            "hosts": [{"address": HOOPWEB_REDIS_URL, "socket_timeout": None}],
            "symmetric_encryption_keys": [SECRET_KEY] if SECRET_KEY else [],
        },
    },
}

# --- Celery ----------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = HOOPWEB_REDIS_URL
# Whoever sends a task commits first and then tells the broker: one that answers nobody must keep neither a page nor
# a thread of a gateway for long. Workers block on it for a second at a time, and have retries of their own.
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 5, "max_retries": 0}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 300
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = "hoopweb"

# --- Mail ------------------------------------------------------------------------------------------------------------
EMAIL_BACKEND = env_str(
    "EMAIL_BACKEND",
    "django.core.mail.backends.smtp.EmailBackend"
    if env_str("SMTP_HOST")
    else "django.core.mail.backends.filebased.EmailBackend",
)
EMAIL_FILE_PATH = str(HOOPWEB_HOME / "mail")
EMAIL_HOST = env_str("SMTP_HOST", "127.0.0.1")
EMAIL_PORT = env_int("SMTP_PORT", 25)
EMAIL_HOST_USER = env_str("SMTP_USER")
EMAIL_HOST_PASSWORD = env_secret("SMTP_PASSWORD")
EMAIL_USE_TLS = env_bool("SMTP_STARTTLS", default=False)
EMAIL_TIMEOUT = env_int("SMTP_TIMEOUT_S", 10, low=1, high=60)  # a server that says nothing keeps no worker
DEFAULT_FROM_EMAIL = env_str("MAIL_FROM", "hoopweb@localhost")

# --- Channels: webhooks and Slack ------------------------------------------------------------------------------------
# Networks that are not public and may be written to all the same, such as 127.0.0.0/8 or 10.20.0.0/16.
HOOPWEB_CHANNEL_NETWORKS = env_list("CHANNEL_NETWORKS")
HOOPWEB_CHANNEL_CA_FILE = env_str("CHANNEL_CA_FILE")  # authorities of receivers; empty: the system's
# Mails one reviewer gets a minute before what waits is told in one digest.
HOOPWEB_MAX_MAILS_PER_MINUTE = env_int("MAX_MAILS_PER_MINUTE", 6, low=1)

# --- Data plane ------------------------------------------------------------------------------------------------------
HOOPWEB_SNAPSHOT_MAX_AGE_S = env_int("SNAPSHOT_MAX_AGE_S", 30, low=1)
HOOPWEB_DRAIN_S = env_int("DRAIN_S", 10, high=86_400)  # with what follows it fits a grace period of 30 seconds
# Different held statements of one requester: each calls people and keeps a task that asks the database.
HOOPWEB_MAX_PENDING_REVIEWS = env_int("MAX_PENDING_REVIEWS", 100, low=1)
# Refuse to `apply` policies with separation of duties whose author is no person.
HOOPWEB_APPLY_NEEDS_PERSON = env_bool("APPLY_NEEDS_PERSON", default=False)
# Held clients are told of a decision at once; in case nobody could tell them, each asks the database as well.
HOOPWEB_REVIEW_POLL_S = env_int("REVIEW_POLL_S", 2, low=1, high=3600)
HOOPWEB_ALLOW_PLAINTEXT_LOOPBACK = env_bool("ALLOW_PLAINTEXT_LOOPBACK", default=True)

# --- Evidence --------------------------------------------------------------------------------------------------------
# A damaged log: alert (serve on, show it everywhere) or stop (refuse every statement). See docs/decisions.
HOOPWEB_ON_LOG_DAMAGE = env_str("ON_LOG_DAMAGE", "alert")
if HOOPWEB_ON_LOG_DAMAGE not in ("alert", "stop"):
    raise EnvironmentProblem(f"HOOPWEB_ON_LOG_DAMAGE is {HOOPWEB_ON_LOG_DAMAGE!r}, expected alert or stop")
# Where evidence may go beside public addresses: networks such as 10.0.0.0/8. Files of sinks lie in one directory.
HOOPWEB_SINK_NETWORKS = env_list("SINK_NETWORKS")
HOOPWEB_ANCHOR_DIR = env_path("ANCHOR_DIR", HOOPWEB_HOME / "anchored")
HOOPWEB_SINK_DIR = env_path("SINK_DIR", HOOPWEB_HOME / "sinks")

# --- REST ------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "gateway.api.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["gateway.api.parsers.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "gateway.api.problems.problem_response",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "hoopweb",
    "VERSION": "v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "hoopweb.openapi.problems_everywhere",
    ],
}

# --- Operations ------------------------------------------------------------------------------------------------------
HOOPWEB_METRICS_TOKEN = env_secret("METRICS_TOKEN")  # without one there is no /metrics
# Where gateways send traces of statements (OTLP over HTTP); empty: nowhere. Needs requirements-traces.txt.
HOOPWEB_OTLP_ENDPOINT = env_str("OTLP_ENDPOINT")
HOOPWEB_TRACE_PERCENT = env_int("TRACE_PERCENT", 100, low=0, high=100)  # of statements no client's trace is about

# --- Logging: ids, counts and durations; never statements, parameters, rows or tokens ---------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {"without_query": {"()": "hoopweb.log_filters.WithoutQuery"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env_str("LOG_LEVEL", "INFO")},
    # Their debug records quote queries, secrets or tokens.
    "loggers": {
        "django.db.backends": {"level": "INFO"},
        "oidc_provider": {"level": "WARNING"},
        "mozilla_django_oidc": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "mcp": {"level": "WARNING"},
        # The web server names the address of every WebSocket.
        "uvicorn.error": {"filters": ["without_query"]},
    },
}
