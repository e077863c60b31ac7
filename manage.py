#!/usr/bin/env python
"""Django's command line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hoopweb.settings")
    # Imported after the settings are named.
    import django  # noqa: PLC0415
    from django.core.management import execute_from_command_line  # noqa: PLC0415
    from django.db import OperationalError  # noqa: PLC0415

    from hoopweb.env import EnvironmentProblem  # noqa: PLC0415
    from hoopweb.loading import nothing_thrown_away  # noqa: PLC0415

    try:
        with nothing_thrown_away():
            django.setup()
        execute_from_command_line(sys.argv)
    except EnvironmentProblem as problem:
        sys.exit(f"hoopweb: {problem}")
    except OperationalError:
        if "--traceback" in sys.argv:
            raise
        sys.exit(
            "hoopweb: the control database does not answer, expected `make run` in another terminal "
            "(or HOOPWEB_HOME, HOOPWEB_DATABASE_URL to name it); --traceback shows more"
        )


if __name__ == "__main__":
    main()
