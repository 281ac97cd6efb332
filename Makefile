# The two commands are `make run` and `make test`; both do all the set-up that a fresh machine needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
PORT ?= 8080
BIN := .venv/bin
FAST := not (kafka or postgres or kubernetes or slow)
CASES := ../shared/cases
export PYTHONPATH := $(CURDIR)

.PHONY: run test check bench simulate cases pins clean

run: .venv/.runtime
	@$(BIN)/federation up --listen 127.0.0.1:$(PORT)

test: .venv/.dev
	@$(BIN)/python -m tests.testbed.build || test "$${CI:-}" != true
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest

.PHONY: lint
lint: .venv/.dev
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint
	@$(BIN)/python -m pytest -m "$(FAST)"

bench: .venv/.dev
	@$(BIN)/python -m benchmarks $(BENCH)

simulate: .venv/.dev
	@$(BIN)/federation simulate $(SCENARIO) $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS))

# FILE is relative to where make is called from, which -C does not change.
cases: .venv/.dev
ifdef FILE
	@$(BIN)/python -m tests.cases.run "$(if $(filter /%,$(FILE)),$(FILE),$(PWD)/$(FILE))"
else
	@for file in division quantity_vectors; do $(BIN)/python -m tests.cases.run "$(CASES)/$$file.json"; done
endif

# What runs is pinned with hashes and without index addresses.
pins: .venv/.dev
	@for name in requirements requirements-dev; do \
	  $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o $$name.txt $$name.in; done

.venv/.venv:
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "federation needs Python 3.11 or newer")'
	@$(PYTHON) -m venv .venv || { apt-get update -q && apt-get install -qy python3-venv && $(PYTHON) -m venv .venv; }
	@touch $@

.venv/.runtime: .venv/.venv requirements.txt
	@echo "installing what federation runs on (pinned, hashed)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/.venv/bin/python" -m federation "$$@"\n' "$(CURDIR)" "$(CURDIR)" > $(BIN)/federation
	@chmod +x $(BIN)/federation
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	@echo "installing what its tests need (pinned, hashed)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

clean:
	@rm -rf .venv .federation .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build *.egg-info
