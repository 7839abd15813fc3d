# `make quickstart` and `make test` do all the set-up there is.
PYTHON ?= python3
BIN := .venv/bin

# All that a user can have; and what tests and linters need beside it, which is more than as much again.
READY := .venv/.ready
TESTABLE := .venv/.testable

.PHONY: setup quickstart test lint format clean

setup: $(TESTABLE)

$(READY): pyproject.toml constraints.txt
	$(call installed,.[all])
	@touch $@

$(TESTABLE): pyproject.toml constraints.txt
	$(call installed,.[dev])
	@touch $(READY) $@

# To compile all that is installed takes as long as to unpack it: Python compiles what is imported, and is let keep that.
export PYTHONDONTWRITEBYTECODE :=

define installed
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
  { echo "firstwords needs Python 3.11 to 3.13; name one with: make setup PYTHON=python3.12"; exit 2; }
$(PYTHON) -m venv .venv
$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '$(1)'
endef

quickstart: $(READY)
	$(BIN)/firstwords quickstart

# One thread for each of the processes: threads of two that wait for each other are slower than none.
test: $(TESTABLE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(TESTABLE)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
