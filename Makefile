# `make` lists the targets. Set-up is part of each: it runs once, and again when
# pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
LISTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help compare test lint bench wheel
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 18

compare: $(VENV)/.graphseq-core ## train and compare models on the embedded data, into runs/
	$(BIN)/python -m experiments.compare --out $(RUNS)

test: $(VENV)/.graphseq-test ## run the whole test suite
	$(BIN)/python -m pytest -q

lint: $(VENV)/.graphseq-dev ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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

# torch goes first and alone, at the version under test, so that nothing later picks another build;
# hatchling beside it, so that the editable install needs no environment of its own.
$(VENV)/.graphseq-build: constraints.txt | $(BIN)/pip
	@echo "[set-up] installing torch into $(VENV) (the largest download, a few minutes)"
	@$(PIP) install -c constraints.txt torch==2.13.0 hatchling editables
	@touch $@

$(VENV)/.graphseq-core: $(LISTS) $(VENV)/.graphseq-build
	@echo "[set-up] installing graphseq and its pinned dependencies"
	@$(PIP) install -c constraints.txt --no-build-isolation -e .
	@touch $@

$(VENV)/.graphseq-%: $(LISTS) $(VENV)/.graphseq-core
	@echo "[set-up] installing what '$*' needs on top"
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[$*]'
	@touch $@
