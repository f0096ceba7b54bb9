PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo docs test lint

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/transfuse demo --output demo

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# One model of each structure. `make test TESTS='not slow and not browser'`, as CI runs it, adds the other families.
TESTS ?= not slow and not browser and not ci

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m '$(TESTS)'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
