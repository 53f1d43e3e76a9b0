# Each target sets up all it needs on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check torture results clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[develop]"
	touch $@

demo: $(BIN)/.ready  ## search on the corpus that the package makes itself; ends with a table and runs/demo/report.html
	rm -rf runs/demo
	$(BIN)/nasformer search demo --run runs/demo

test: $(BIN)/.ready  ## every test
	$(BIN)/python -m pytest

check: $(BIN)/.ready  ## format, lint, types and the fast tests
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" -x

torture: $(BIN)/.ready  ## every search on another device; numeric tests as each processor rounds; runs that are killed and resumed
	$(BIN)/python -m pytest -m torture
	$(BIN)/python tests/systems/capabilities.py
	$(BIN)/python tests/systems/torture.py

results: $(BIN)/.ready  ## the runs behind docs/results.md (hours); DATA is a folder with multi30k-en-de
	PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/results.sh "$(DATA)"

clean:
	rm -rf .venv runs/demo
