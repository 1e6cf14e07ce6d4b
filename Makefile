# Everything happens in .venv, made from requirements.lock. `make demo` and `make test` need only
# Python 3.11 or 3.12 and make.
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || echo python3)
BIN := .venv/bin
PACKAGES := tandem serving batch export retrieval ranking training evaluation features interactions
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test test-all benchmark-retrieval benchmark-ranking check audit format lock clean

help:  ## say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/installed: requirements.lock setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "Tandem needs Python 3.11 or 3.12; this is $$($(PYTHON) --version). Name one: make PYTHON=python3.11 ..."; exit 2; }
	@$(PYTHON) -m venv .venv || \
	  { echo "Python has no venv module; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	@echo "installing about 3.4 GB into .venv; pip is silent for some minutes"
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@# setuptools warns of editable installs as such
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/installed  ## the main job on a generated marketplace, a few minutes, into runs/demo
	$(BIN)/tandem demo --run runs/demo

test: .venv/installed  ## the tests
	$(BIN)/python -m pytest

test-all: .venv/installed  ## the tests, with the slow ones
	$(BIN)/python -m pytest -m "slow or not slow"

benchmark-retrieval: .venv/installed  ## compare the retriever with its baselines on every data set, hours, into runs/benchmarks
	$(BIN)/python -m benchmarks.retrieval.compare

benchmark-ranking: .venv/installed  ## compare the ranker with its baselines and variants on every data set, hours, into runs/benchmarks
	$(BIN)/python -m benchmarks.ranking.compare

check: .venv/installed  ## format, lint, types and import contracts, as CI runs them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

audit: .venv/installed  ## look the locked packages up in the advisories that pip-audit knows; needs its network
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

format: .venv/installed  ## rewrite the sources in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/installed  ## renew requirements.lock from setup.cfg
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras setup.cfg -o requirements.lock

clean:  ## remove the environment and every run
	rm -rf .venv runs build dist *.egg-info
