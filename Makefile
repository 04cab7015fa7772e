# Needs make, bash and Python 3.11 to 3.13. Choose one with `make setup PYTHON=/path/to/python3.12`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-slow test-long test-browser test-versions package benchmarks docs lint clean

BIN := .venv/bin
SUPPORTED := import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && { echo $$p; break; }; done)
# The share of long tests and of products: a third, another one after each commit.
SHARE = --share "$$(git rev-list --count HEAD 2>/dev/null || echo 0)/3"
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Of pip's output: what takes long, and errors, which it writes to standard error.
PROGRESS := awk '/(Downloading|Using cached) .*[0-9] [MG]B\)/ { print; fflush() } \
	/^Installing collected/ { print "  Installing"; fflush() }'

help:
	@echo "make setup       install tfmtl2r with its tools for development into .venv"
	@echo "make quickstart  train, compare, export and score on bundled data (about a minute)"
	@echo "make test        fast tests and doctests; of large products a third, another third after each commit"
	@echo "make test-slow   long fits, and a third of the tests of over 15 s, another third after each commit"
	@echo "make test-long   all tests of over 15 s"
	@echo "make test-browser  tests of pages in chromium, which is installed where it is missing (Debian)"
	@echo "make test-versions  a part of the tests on other versions: AXES='lowest newest bare 3.12 3.13', or some"
	@echo "make package     wheel and sdist, installed and used with each extra in a new environment"
	@echo "make benchmarks  measures other libraries and growth again: sections of docs/benchmarks.md, docs/scale.md"
	@echo "make lint        style, import layers, dependencies, dead code, types on Linux, Windows and macOS"
	@echo "make docs        the documentation, as pages in docs/_build/html"
	@echo "make clean       remove caches and builds; .venv, runs/ and saved_models/ stay"

setup: .venv/.dev

quickstart: .venv/.runtime
	@$(BIN)/python recipes/quickstart.py

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 $(SHARE)

test-slow: .venv/.dev
	@# pytest exits with 5 when no test is marked slow.
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not browser" $(SHARE) || [ $$? -eq 5 ]

test-long: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

test-browser: .venv/.dev
	@command -v chromium google-chrome >/dev/null || { \
		sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
		$$sudo apt-get install -y -qq chromium >/dev/null 2>&1 || { $$sudo apt-get update -qq && \
			$$sudo apt-get install -y -qq chromium; } >/dev/null 2>&1 || \
		echo "chromium cannot be installed on this machine: the tests that need it are skipped"; }
	$(BIN)/python -m pytest -m browser

test-versions: .venv/.dev
	.ci/versions $(AXES)

package: .venv/.dev
	.ci/package $(EXTRAS)

benchmarks: .venv/.dev
	$(BIN)/python recipes/bench_peers.py --page docs/benchmarks.md
	$(BIN)/python recipes/bench_scale.py --page docs/scale.md

docs: .venv/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/deptry .
	@# Code that nothing uses. The tests count as users, and are not searched themselves.
	! $(BIN)/vulture | grep '^tfmtl2r/'
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin

clean:
	rm -rf dist build docs/_build docs/generated .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find tfmtl2r tests recipes -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: installed once, and again when pyproject.toml changes.
.venv/.dev: EXTRA := [dev]
.venv/.docs: EXTRA := [docs]
.venv/.dev .venv/.docs .venv/.runtime: pyproject.toml | .venv/bin/python
	@echo "Installing tfmtl2r$(EXTRA) and its libraries into .venv; the first time this takes a few minutes"
	@$(PIP) install -e '.$(EXTRA)' | $(PROGRESS)
	@touch .venv/.runtime $@

.venv/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "tfmtl2r needs Python 3.11, 3.12 or 3.13; found neither python3 of that age nor" \
		"python3.13, python3.12, python3.11. Install one, or: make setup PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "tfmtl2r needs Python 3.11, 3.12 or 3.13;" \
		"$(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
