# make run   the candles flow on embedded defaults; needs Python 3.11 or 3.12 and make;
#            another flow with FLOW=statistics
# make page  the live page in a browser, with a simulated market to show; nothing else needed
# make test  every test that is not marked slow, on real Kafka and PostgreSQL
# make crash more than 100 kills at every kind of moment, outages and zombies: about an hour;
#            other plans and logs with SEED=100
# make bench every benchmark, into benchmarks/results: three quarters of an hour
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
VENV ?= .venv
BIN := $(VENV)/bin
DATA_DIR ?= .data
FLOW ?= candles
RECOVERY = $(DATA_DIR)/recovery/$(FLOW)
SEED ?= 0
export DATA_DIR

run: $(VENV)/.run
	@test -f dataflows/$(FLOW).py || { echo "FLOW=$(FLOW) is no flow; docs/flows.md lists them all." >&2; exit 1; }
	@test -d $(RECOVERY) || { mkdir -p $(RECOVERY) && $(BIN)/python -m bytewax.recovery $(RECOVERY) 1; }
	@exec $(BIN)/python -m bytewax.run dataflows.$(FLOW) -r $(RECOVERY) -s 5 -b 0

page: $(VENV)/.run
	@exec $(BIN)/python -m page.demo

# Each part has servers of its own, and most tests wait for some process: fewer at a time leave a
# machine with two cores idle. The longest come first.
PARTS := test-crash test-integration-4 test-integration-2 test-integration-1 test-integration-3 test-unit
.PHONY: run page test $(PARTS) crash lint audit proto lock clean bench bench-short image-size
test: $(VENV)/.dev
	@echo "Compiling the kernels; then $(words $(PARTS)) parts of the tests, three at a time, each shown when it is done."
	@$(BIN)/python -m dataflows.compiled
	@$(MAKE) --no-print-directory -j3 --keep-going --output-sync=target $(PARTS)

test-integration-1: FILES := tests/integration/test_[a-j]*.py
test-integration-2: FILES := tests/integration/test_[k-o]*.py
test-integration-3: FILES := tests/integration/test_p*.py
test-integration-4: FILES := tests/integration/test_[q-z]*.py
test-crash: FILES := tests/crash
test-unit: FILES := tests/unit
$(PARTS): $(VENV)/.dev
	$(BIN)/python -m pytest $(FILES)

crash: $(VENV)/.dev
	$(BIN)/python -m pytest tests/crash -m "slow or not slow" --crash-seed $(SEED) --crash-report benchmarks/results/crash.txt

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(VENV)/.dev
	$(BIN)/python -m tests.audit

BENCHES := throughput profile_flow metrics latency memory statistics market feed sessions sellers \
  vehicles vehicles_latency page ready tracing
# Wants a quiet machine.
bench: $(VENV)/.dev image-size
	for name in $(BENCHES); do $(BIN)/python -m benchmarks.$$name; done

# The short form proves that all of it runs, two at a time; its figures mean nothing.
SHORT_throughput := --trades 200000 --small 50000 --repeat 1
SHORT_profile_flow := --trades 200000
SHORT_metrics := --trades 200000 --repeat 1
SHORT_tracing := --batches 2000
SHORT_latency := --duration 5 --warm-up 5
SHORT_memory := --duration 20
SHORT_statistics := --trades 200000 --instruments 20 --window-trades 200000 --many-trades 100000 \
  --builtin-trades 40 --repeat 1
SHORT_market := --trades 200000 --repeat 1
SHORT_feed := --rates 5000 --duration 3 --warm-up 2
SHORT_sessions := --events 200000 --repeat 1
SHORT_sellers := --sales 200000 --repeat 1
SHORT_vehicles := --changes 5000 --repeat 1
SHORT_ready := --native --flows candles sellers --repeat 1
SHORT_vehicles_latency := --rates 50 --duration 2 --warm-up 6 --sources slot
SHORT_page := --instruments 5 50 --duration 4 --warm-up 1 --repeat 1
bench-short: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j2 --keep-going --output-sync=target $(BENCHES:%=short-%)
short-%: $(VENV)/.dev
	$(BIN)/python -m benchmarks.$* $(SHORT_$*) --output .cache/benchmarks/short

# What the image would weigh; a few minutes the first time.
image-size:
	docker/size

proto: $(VENV)/.dev
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. schemas/market.proto schemas/vehicles.proto

# Resolves the newest versions that pyproject.toml allows, for both Python versions at once.
lock: $(VENV)/.dev
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

clean:
	rm -rf $(VENV) $(DATA_DIR)

# The interpreter is the first of these that runs and that Bytewax has wheels for.
$(VENV)/bin/python:
	@for candidate in python3.12 python3.11 python3 python; do \
	  if $$candidate -c 'import sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$($$candidate --version)"; exec $$candidate -m venv $(VENV); \
	  fi; \
	done; echo "No Python 3.11 or 3.12 with the venv module was found; install one (Debian: python3-venv) and try again." >&2; exit 1

$(VENV)/.run: requirements.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m dataflows.compiled
	touch $@

$(VENV)/.dev: requirements-dev.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@ $(VENV)/.run
