"""The product's settings, over services that exist: importing this module starts them where nobody brought any.

pytest-django loads the settings before any conftest.py, so this is the one place early enough to do it.
"""

from tests.services import ensure_services

ensure_services()

from hoopweb.settings import *  # noqa: E402, F403

# Tests fail sign-ins on purpose, from one address; those about waiting say their own bounds.
HOOPWEB_FAILURES_PER_NAME = HOOPWEB_FAILURES_PER_ADDRESS = 1_000_000
# The running product (tests/stack.py) keeps the real one; here a thousand tests make people and secrets.
PASSWORD_HASHERS = ["tests.hashing.OneRound"]
# A thousand clients make the middleware anew: static files are looked for when they are asked for, not all before.
WHITENOISE_AUTOREFRESH = True
