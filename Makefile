# `make demo` and `make test` need only Python >= 3.11 and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Which versions pip installs: the tested ones, unless `make test-newest` asks for others.
VERSIONS := -c requirements.lock

export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-newest test-all lint torture bench torch paper-gaussian first-try wheel clean

demo: $(VENV)/installed
	$(BIN)/hvax train digits

# A file's tests run in one process, which shares their compiled programs and trained models.
PYTEST := $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# Meant for at most eight minutes on two idle cores; tests/mutants shows what it catches.
test: $(VENV)/installed-test lint
	JAX_ENABLE_X64=0 $(PYTEST)
	JAX_ENABLE_X64=1 $(PYTEST)

# `make test` with the newest versions that pip finds, in an environment of its own; for example
# `make test-newest PYTHON=python3.13`, since the newest JAX asks for a newer Python.
NEWEST := .venv-newest
test-newest:
	rm -f $(NEWEST)/installed*
	$(MAKE) test VENV=$(NEWEST) VERSIONS='--upgrade --upgrade-strategy eager'

# Everything there is: the slow tests, every test in both precisions, and `make torture`.
test-all: $(VENV)/installed-test lint torture
	JAX_ENABLE_X64=0 $(PYTEST) --slow
	JAX_ENABLE_X64=1 $(PYTEST) --slow

# Kills, signals, damaged files, a full disk: the real program, hurt and resumed; about half an hour.
torture: $(VENV)/installed-test
	$(BIN)/python -m torture

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  (echo "hvax needs Python >= 3.11; $(PYTHON) is older. Set PYTHON=..."; exit 1)
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(VERSIONS) -e .
	touch $@

$(VENV)/installed-test: $(VENV)/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(VERSIONS) -e '.[test]'
	touch $@ $(VENV)/installed

# hvax beside PyTorch, in ratios; without .venv-torch (`make torch`) hvax alone.
bench: $(VENV)/installed-test
	$(BIN)/python benchmarks/step.py

torch:
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet torch==2.13.0 numpy

# The paper's Gaussian experiment: half an hour; docs/paper.md shows what comes of it.
paper-gaussian: $(VENV)/installed
	$(BIN)/python -m experiments.gaussian

# Real tables, by the defaults of program and library, beside simpler densities: docs/first-try.md.
first-try: $(VENV)/installed-test
	$(BIN)/python -m tests.first_try --table --check

# The wheel, built, installed on its own, and tried outside the source tree.
wheel: $(VENV)/installed-test
	rm -rf dist build/wheel && $(BIN)/python -m build --wheel
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet -c requirements.lock dist/*.whl
	cd build && wheel/bin/hvax train digits --epochs 2 --num-samples 10 --run-dir wheel/run

clean:
	rm -rf $(VENV) $(NEWEST) .venv-torch dist build
