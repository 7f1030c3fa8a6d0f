# `make run`: the whole loop on a generated dataset. `make test`: the tests. Each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all lint

help:
	@echo "make run    draw a dataset, train, evaluate and register two models (about 4 minutes)"
	@echo "make test   run the tests (up to 15 minutes); make test-all: the long ones too (up to 30)"
	@echo "make lint   ruff and mypy"

setup: $(READY)

# uv itself is pinned by hash in requirements.lock, like everything that it then installs.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else "visionline needs Python 3.11 or 3.12, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v)'
	@$(PYTHON) -m venv --clear $(VENV)
	@awk '/^[a-z]/ {keep = /^uv==/} keep' requirements.lock > $(VENV)/uv.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
	  git config merge.dvc.name "DVC merge driver" && \
	  git config merge.dvc.driver "dvc git-hook merge-driver --ancestor %O --our %A --their %B"; fi
	@touch $@

run: $(READY)
	@visionline generate
	@visionline run

test: $(READY)
	@python -m pytest -n 2 --dist loadfile -m "not gpu and not long"

test-all: $(READY)
	@python -m pytest -n 2 --dist loadfile

lint: $(READY)
	@ruff check . && ruff format --check . && mypy
