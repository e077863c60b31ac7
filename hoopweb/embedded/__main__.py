"""`python -m hoopweb.embedded` (`make run`): the whole product on one machine, without root and without containers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from argparse import ArgumentParser

from hoopweb.embedded.command import die_with_parent
from hoopweb.embedded.configuration import AlreadyRunning, exclusive, read_configuration
from hoopweb.embedded.output import Output
from hoopweb.embedded.problem import StackProblem
from hoopweb.embedded.stack import prepare_home, run_stack
from hoopweb.env import EnvironmentProblem


def main() -> int:
    """0 after an ordinary stop or when this home is running already, 1 with one sentence when it cannot run."""
    parser = ArgumentParser(prog="python -m hoopweb.embedded", description=__doc__)
    parser.add_argument("--with-parent", action="store_true", help="stop when the program that started this one ends")
    parser.add_argument("--prepare", action="store_true", help="make the home ready for a start, and stop")
    options = parser.parse_args()
    if options.with_parent:
        die_with_parent(signal.SIGTERM)
    os.umask(0o022)  # the servers' account must be able to walk into the home; every secret has a mode of its own
    output = Output()
    try:
        configuration = read_configuration()
        with exclusive(configuration.home):
            asyncio.run((prepare_home if options.prepare else run_stack)(configuration, output))
    except AlreadyRunning as running:
        print(f"hoopweb: {running}", file=sys.stderr)
        return 0
    except (StackProblem, EnvironmentProblem) as problem:
        output.close()
        print(f"hoopweb: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        output.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
