# Everything is set up in .venv from pinned packages; a second run needs no network. `make` alone lists the targets.
# Another Python: make PYTHON=python3.13 test     Some tests: make test TESTS=tests/tls
PYTHON ?= python3
TESTS ?=
JOBS ?= auto
PY := .venv/bin/python
# Set-up runs the system's Python, even where a set-up that was broken off left one in .venv.
SYSTEM_PATH := $(PATH)
SETUP = @PATH="$(SYSTEM_PATH)" $(PYTHON) tools/environment.py

# Compilers that come as packages are found first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast programs image coverage lint format check-startup fuzz disable-checks bench examples pins clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS='	' read -r name text; do \
		printf '  make %-15s%s\n' "$$name" "$$text"; done

venv: ## set up .venv with donjon in it: .venv/bin/donjon
	$(SETUP) run

demo: ## a TLS server in a Keep, and one that proves what it is: in a process, and in a virtual machine
	$(SETUP) run steward image
	@$(PY) examples/demo.py
	@$(PY) examples/prove.py
	@XDG_CACHE_HOME=$(CURDIR)/.build/cache $(PY) examples/prove.py --backend kvm

programs: ## build the guests that the tests run (into .build/programs)
	$(SETUP) run test
	@$(PY) -m tests.programs.build

image: ## build the guest images that tests boot (into .build/cache)
	$(SETUP) run test
	@$(PY) -m tests.images

test: programs image ## set up and run all tests
	@$(PY) -m pytest -q -n $(JOBS) $(TESTS)

test-fast: programs ## the tests that take no longer than a blink
	@$(PY) -m pytest -q -n $(JOBS) -m "not slow" $(TESTS)

coverage: programs image ## all tests, and which lines and branches of src/donjon they reach
	@rm -f .coverage .coverage.*
	@$(PY) -m coverage run -m pytest -q $(TESTS)
	@$(PY) -m coverage combine -q
	@$(PY) -m coverage report

lint: ## style, types, directions of imports, texts
	$(SETUP) run test lint
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m tools.check_imports
	@$(PY) -m tools.check_texts

format: ## let ruff rewrite what it can
	$(SETUP) run test lint
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

check-startup: venv ## what `donjon run` imports, against the list of what it may
	@$(PY) -m tools.check_startup

fuzz: ## feed strange bytes to all that reads bytes, for a minute; TARGET=snp.parse SECONDS=600 for one, long
	$(SETUP) run test fuzz
	@$(PY) -m tests.fuzz.run $(if $(SECONDS),--seconds $(SECONDS)) $(TARGET)

disable-checks: ## disable each check and policy key, one at a time: some test has to notice
	$(SETUP) run test
	@$(PY) -m tools.disable_checks --jobs $(if $(filter auto,$(JOBS)),2,$(JOBS))

bench: programs ## measure beside the peers; prints one table
	@$(PY) -m bench

examples: ## build all examples, each where its source is
	$(SETUP) run test
	@$(PY) examples/build.py

pins: ## resolve requirements/*.in anew (needs uv and a network; UPGRADE=--upgrade for newer versions)
	@$(PYTHON) tools/pins.py $(UPGRADE)

clean: ## remove everything that make has made
	rm -rf .venv .build .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find src tests tools bench examples -name __pycache__ -type d -prune -exec rm -rf {} +
