#!/bin/sh
# The command `hoopweb`: `make` links it as .venv/bin/hoopweb. -P: what lies in the caller's directory is never imported.
root=$(dirname "$(readlink -f "$0")")/../..
PYTHONPATH="$root" exec "$root/.venv/bin/python" -P -m hoopweb.cli "$@"
