# `make quickstart` and `make test` do all the set-up there is.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart test lint format clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "firstwords needs Python 3.11 to 3.13; name one with: make setup PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: setup
	$(BIN)/firstwords quickstart

# One thread for each of the processes: threads of two that wait for each other are slower than none.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
