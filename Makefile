# Nexus. `make` lists the targets. What they install lies below NEXUS_HOME; downloads stay in uv's cache (UV_CACHE_DIR,
# ~/.cache/uv by default), from which uv links the files: another environment or home on the same disk takes seconds.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables

PYTHON ?= $(shell command -v python3.11 || echo python3)
NEXUS_HOME ?= .nexus

INSTALL := $(PYTHON) nexus/environments/install.py
CORE := $(NEXUS_HOME)/envs/core/bin
RUN := $(CORE)/python -m
PYTEST := $(RUN) pytest --durations=10
# One worker a core up to four: more only compete for the disk while they import.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: install
install: ## Install what running Nexus needs (core and engine environments)
	@$(INSTALL) core engine

.PHONY: install-dev
install-dev: ## Install what the tests need, too
	@$(INSTALL) dev engine provider

.PHONY: demo
demo: install ## Run the main job: act 1 promotes a quantized model, act 2 rolls a harmful one back
	@$(CORE)/nexus demo

.PHONY: test
test: unit integration ## Run every test

.PHONY: unit
unit: install-dev ## Run unit and contract tests, in parallel
	$(PYTEST) tests/unit tests/contract --numprocesses $(WORKERS) --dist loadfile

.PHONY: integration
integration: install-dev ## Run integration and end-to-end tests, one after another: each starts real processes
	$(PYTEST) tests/integration tests/e2e -v

.PHONY: native-gateway
native-gateway: install-dev ## Compile the gateway's hot path to C, a third faster (PYTHONPATH=.nexus/native python -P -m gateway)
	$(RUN) nexus.environments.native_gateway $(NEXUS_HOME)/native

.PHONY: bench-gateway
bench-gateway: native-gateway ## Measure the gateway, every policy on, against its peers (COMPARE=path of compare.py)
	$(RUN) tests.load.bench_gateway $(COMPARE) --native $(NEXUS_HOME)/native
COMPARE ?= ../shared/bench/compare.py

.PHONY: check
check: lint unit ## The gate: format, lint, types, imports, generated files, unit and contract tests

.PHONY: lint
lint: install-dev ## Format, lint, types, imports, docstrings, generated files
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(CORE)/lint-imports
	$(RUN) interrogate --quiet tests
	$(RUN) serving.contracts.schemas --check
	$(RUN) pipelines.compile --check

.PHONY: fmt
fmt: install-dev ## Format, fix what a tool can fix, regenerate generated files
	$(RUN) ruff format .
	$(RUN) ruff check --fix .
	$(RUN) serving.contracts.schemas
	$(RUN) pipelines.compile
	$(RUN) nexus.settings_table

.PHONY: lock
lock: ## Resolve the locks again; UPGRADE=--upgrade takes newer versions
	@$(INSTALL) bootstrap
	@$(PYTHON) nexus/environments/lock.py --uv $(NEXUS_HOME)/bootstrap/bin/uv $(UPGRADE)
UPGRADE ?=

.PHONY: down
down: ## Stop everything that Nexus started on this machine
	@if [[ -x $(CORE)/nexus ]]; then $(CORE)/nexus down; else echo "nothing is installed, so nothing runs"; fi

.PHONY: clean
clean: ## Remove build outputs and tool caches; environments and releases stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(NEXUS_HOME) -prune -o -name __pycache__ -type d -exec rm -rf {} +
