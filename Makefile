# `make` lists the targets. Set-up is part of each: it runs once, and again when
# pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PARALLEL := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
LISTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help compare demo test test-fast lint docs bench wheel
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 18

compare: $(VENV)/.graphseq-core ## train and compare models on the embedded data, into runs/
	$(BIN)/graphseq compare uci-eshop --out $(RUNS)

demo: $(VENV)/.graphseq-test ## open a page with three models of the embedded data, on port 8000
	$(BIN)/graphseq demo --folder $(RUNS)/demo

test: $(VENV)/.graphseq-test ## run the whole test suite
	$(BIN)/python -m pytest -q $(PARALLEL)

test-fast: $(VENV)/.graphseq-test ## run the quick tests, those not marked slow
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow"

lint: $(VENV)/.graphseq-dev ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for script in datasets/*/prepare.py; do $(BIN)/mypy --no-error-summary $$script || exit 1; done

docs: $(VENV)/.graphseq-docs ## build the documentation site and run its examples, into build/docs
	$(BIN)/python -m pytest -q $(PARALLEL) graphseq tests/test_site.py
	$(BIN)/sphinx-build -W --keep-going -q -d build/doctrees -c docs -b html . build/docs
	@echo "Open build/docs/index.html; no server is needed."

bench: $(VENV)/.graphseq-core ## measure speed and memory (minutes), into runs/benchmarks
	$(BIN)/python -m experiments.benchmarks.graphs --out $(RUNS)/benchmarks
	$(BIN)/python -m experiments.benchmarks.training --out $(RUNS)/benchmarks
	$(BIN)/python -m experiments.benchmarks.families --out $(RUNS)/benchmarks

wheel: $(VENV)/.graphseq-dev ## build sdist and wheel into dist/
	$(BIN)/python -m build --no-isolation --outdir dist

# -- set-up --------------------------------------------------------------------------------------

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "graphseq needs Python 3.11 or newer, and '$(PYTHON)' is not: name one, as in 'make PYTHON=python3.12'."; \
	  exit 1; }
	@echo "[set-up] creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# Each part of constraints.txt is installed as it stands, by hash and without asking what else it
# needs. torch comes after the core and alone, at the version under test: which build of it a machine
# needs is not known here, so it has no hash; all it needs is there already.
part = sed -n '/^\# -- $(1)$$/,/^\# -- /p' constraints.txt > $(VENV)/$(1).txt && \
  $(PIP) install --require-hashes --no-deps -r $(VENV)/$(1).txt

$(VENV)/.graphseq-core: $(LISTS) | $(BIN)/pip
	@echo "[set-up] installing the pinned dependencies into $(VENV)"
	@$(call part,core)
	@echo "[set-up] installing torch (the largest download, a few minutes) and graphseq"
	@$(PIP) install torch==2.13.0
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.graphseq-test: $(VENV)/.graphseq-core
	@echo "[set-up] installing what the tests need on top"
	@$(call part,test)
	@touch $@

$(VENV)/.graphseq-dev: $(VENV)/.graphseq-test
	@echo "[set-up] installing what linting, types and wheels need on top"
	@$(call part,dev)
	@touch $@

$(VENV)/.graphseq-docs: $(VENV)/.graphseq-dev
	@echo "[set-up] installing what the documentation site needs on top"
	@$(call part,docs)
	@touch $@
