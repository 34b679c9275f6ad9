# make demo    audit the packaged network on real photographs, into demo-audit/
# make test    everything that must hold: style, types, rooms, tests, documentation
# Everything is installed into .venv/ and nothing outside this folder is written but caches.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt

.PHONY: demo test test-slow bench lint types rooms docs clean

demo: $(VENV)/.stamp-demo
	$(BIN)/fukusen audit demo demo --out demo-audit
	@echo "Open demo-audit/report.html in a browser."

test: lint types rooms
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

test-slow: $(VENV)/.stamp-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m slow

bench: $(VENV)/.stamp-bench
	set -e; for script in benchmarks/*.py; do $(BIN)/python "$$script"; done

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.stamp-test
	$(BIN)/mypy

rooms: $(VENV)/.stamp-test
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.stamp-test
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist demo-audit .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-venv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here. Name a Python of at least 3.11: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fukusen needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Name another: make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	$(PIP) -e '.[demo,dev]'
	@touch $@

$(VENV)/.stamp-bench: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	$(PIP) -e '.[demo,bench]'
	@touch $@
