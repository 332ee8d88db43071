# `make demo` needs only the base packages; test, lint and bench add the test packages. Nothing is printed but what happens.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
BASE := $(VENV)/.base-installed
TEST := $(VENV)/.test-installed
PEERS := $(VENV)/.peers-installed
BENCH := $(VENV)/.bench-installed

.PHONY: help install demo test test-slow test-peers lint format bench lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       train, measure and show a small model on this machine"
	@echo "make install    the base packages in $(VENV)"
	@echo "make test       the tests, without the slow ones; make test-slow runs those"
	@echo "make test-peers the tests against llama.cpp, which is compiled first (about ten minutes, once)"
	@echo "make lint       ruff, mypy, import-linter; make format puts layout right"
	@echo "make bench      training steps side by side with other software; bench/README.md has the rest"
	@echo "make lock       renew requirements/*.lock from pyproject.toml"

install: $(BASE)

demo: $(BASE)
	@$(BIN)/rhapsode run recipes/quickstart.yaml --resume

# The models of tests are so small that a second thread would only wait for the first: a second process does not. What a
# file's tests share is made once, in one of them. The slow ones have the whole machine, one after another.
test: $(TEST)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not peers" -n 2 --dist loadfile

test-slow: $(TEST)
	@$(BIN)/python -m pytest -m "slow and not peers"

test-peers: $(PEERS)
	@$(BIN)/python -m pytest -m peers

lint: $(TEST)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@report=$$($(BIN)/lint-imports --no-logo) || { echo "$$report"; exit 1; }
	@echo "lint: ruff, mypy and import-linter found nothing"

format: $(TEST)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

bench: $(BENCH)
	@$(BIN)/python bench/train_throughput.py

lock:
	@$(PYTHON) requirements/lock.py

clean:
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Torch comes first and alone: it is most of the download, and the packages after it must not choose another one.
$(BASE): requirements/base.lock pyproject.toml | $(BIN)/python
	@echo "Installing torch (the largest package) ..."
	@$(PIP) install $$(grep '^torch==' requirements/base.lock)
	@echo "Installing the base packages ..."
	@$(PIP) install -r requirements/base.lock
	@$(PIP) install --no-deps -e .
	@touch $@

$(TEST): requirements/test.lock $(BASE)
	@echo "Installing the test packages ..."
	@$(PIP) install -r requirements/test.lock
	@touch $@

$(PEERS): requirements/peers.lock $(TEST)
	@echo "Compiling llama.cpp (about ten minutes) ..."
	@$(PIP) install -r requirements/peers.lock
	@touch $@

# Beside the packages and not among them: what the peers need must not change what we run on.
$(BENCH): requirements/bench.txt $(TEST)
	@echo "Installing what training is measured beside ..."
	@$(PIP) install --no-deps --target $(VENV)/bench -r requirements/bench.txt
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
