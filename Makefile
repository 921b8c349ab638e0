# `make demo` and `make test` need nothing but Python 3.11 or newer and pip. `make check` is for
# every day: lint, types and the unmarked tests, on two cores.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The demo needs fewer packages than development; a complete environment serves both.
DEMO_READY := $(if $(wildcard $(READY)),$(READY),$(VENV)/.ready-demo)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Test processes. Each imports and collects everything, and has servers of its own: one process needs
# the least CPU time, `make test JOBS=2` ends sooner.
JOBS ?= 1
# Small models gain nothing from many numerical threads, and several such programs slow each other down.
export OMP_NUM_THREADS ?= 1
# The tests start hundreds of processes. Without stored bytecode, each compiles its imports again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint types docs notebooks clean

demo: $(DEMO_READY)
	$(BIN)/bo-invert demo --out demo

test: lint types docs $(READY)
	$(BIN)/python -m pytest $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile)

check: lint types $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not peers and not service"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet --site-dir site

# Executes the notebooks in full and stores them with their pictures.
notebooks: $(READY)
	$(BIN)/python notebooks/execute.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[dev]"
	touch $@

# Python compiles the modules at their first import: most of them are not needed.
$(VENV)/.ready-demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-compile --editable ".[demo]"
	touch $@

clean:
	rm -rf $(VENV) site demo .mypy_cache .ruff_cache .pytest_cache
