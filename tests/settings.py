"""The product's settings, over services that exist: importing this module starts them where nobody brought any.

pytest-django loads the settings before any conftest.py, so this is the one place early enough to do it.
"""

from tests.services import ensure_services

ensure_services()

from hoopweb.settings import *  # noqa: E402, F403
