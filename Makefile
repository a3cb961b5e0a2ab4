# heylookllm: every command of a working day. `make help` lists them.
# Needs Python 3.11 or later with pip, a C++ compiler and make; uv is used if it is there.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := $(wildcard requirements/*.txt) pyproject.toml tools/install.py
# The accelerator stays what it was at the last `make install`; see tools/install.py for the flags of each.
ACCEL ?= $(shell cat $(VENV)/accelerator 2>/dev/null || echo default)
ARGS ?=

# The first Python of the right version; evaluated only when something has to be installed.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
INSTALL = @if [ -z "$(PYTHON)" ]; then \
	echo "heylookllm needs Python 3.11 or later, and none is on PATH." \
	"Install it (Debian: apt install python3 python3-venv; macOS: brew install python), or say make PYTHON=/path/to/python3." >&2; \
	exit 1; fi; $(PYTHON) tools/install.py --environment $(VENV) --accelerator $(ACCEL)

.DEFAULT_GOAL := help
.PHONY: help install mlx vlm dev serve test test_long test_ui screenshots conformance lock-conformance test_truth test_faults test_changed coverage bench-peers bench-servers bench-truth lock-bench-truth check format lint build docs docs-serve docs-tables lock check-platforms clean distclean

help:  ## show this
	@grep -E '^[a-z_-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F ':.*  ## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# ---- set-up: each stamp is written by tools/install.py when that part stands -----------------------------------------

$(VENV)/installed-$(ACCEL): $(REQUIREMENTS)
	$(INSTALL)

$(VENV)/installed-dev: $(VENV)/installed-$(ACCEL) $(REQUIREMENTS)
	$(INSTALL) --with dev

$(VENV)/installed-docs: $(VENV)/installed-$(ACCEL) $(REQUIREMENTS)
	$(INSTALL) --with docs

install:  ## build .venv with both engines; ACCEL=cpu|cuda|vulkan|rocm|metal compiles llama.cpp for it
	$(INSTALL)

$(VENV)/installed-mlx: $(REQUIREMENTS)
	$(INSTALL) --engine mlx

mlx: $(VENV)/installed-mlx  ## build .venv with MLX alone, which comes in wheels: nothing is compiled

$(VENV)/installed-vlm: $(VENV)/installed-mlx $(REQUIREMENTS)
	$(INSTALL) --engine mlx --with vlm

vlm: $(VENV)/installed-vlm  ## ... and mlx-vlm, by which MLX models see images: 600 MB with all that it brings

dev: $(VENV)/installed-dev  ## ... and what tests and checks need, and the git hook
	@if [ -d .git ]; then $(BIN)/pre-commit install; fi

# On Apple silicon MLX computes on the GPU and comes in wheels, so nobody waits there for llama.cpp to compile: until
# `make install` has done that, MLX serves.
APPLE_SILICON := $(filter Darwin_arm64,$(shell uname -s)_$(shell uname -m))
COMPILED = $(wildcard $(VENV)/engine)
SERVES = $(VENV)/installed-$(if $(APPLE_SILICON),$(if $(COMPILED),$(ACCEL),mlx),$(ACCEL))

# ---- use -------------------------------------------------------------------------------------------------------------

serve: $(SERVES)  ## start the server; ARGS="--port 9000" passes options
	@exec $(BIN)/heylookllm serve $(ARGS)

# ---- tests and checks ------------------------------------------------------------------------------------------------

test: $(VENV)/installed-dev  ## the tests of every commit; ARGS="-k router" passes options to pytest
	@HEYLOOK_TEST_TIER=commit $(BIN)/python -m pytest $(ARGS)

test_long: $(VENV)/installed-dev  ## the same with long state machines and soaks (an hour or so)
	@HEYLOOK_TEST_TIER=long $(BIN)/python -m pytest $(ARGS)

test_faults: $(VENV)/installed-dev  ## a hundred random faults of pulls, and what came of them (HEYLOOK_FAULT_SEED=7 chooses others)
	@HEYLOOK_TEST_TIER=long $(BIN)/python -m pytest -s tests/catalog/test_hundred_faults.py $(ARGS)

build/ui/installed: tests/ui/package.json $(VENV)/installed-dev
	@mkdir -p build/ui && cp tests/ui/package.json build/ui
	@npm install --prefix build/ui --no-audit --no-fund --no-package-lock --loglevel error
	@touch $@

test_ui: build/ui/installed  ## every flow of the web pages in a real browser (fetches Chromium if there is none; needs npm)
	@$(BIN)/python tools/browser.py
	@HEYLOOK_TEST_TIER=long $(BIN)/python -m pytest tests/ui $(ARGS)

screenshots: $(VENV)/installed-dev  ## the web pages, light and dark, narrow and wide, into docs/screenshots/
	@$(BIN)/python tools/browser.py
	@$(BIN)/python -m tests.ui.screenshots $(ARGS)

TRUTH := test_truth.py test_injected.py test_limits.py
BENCH_TRUTH := tests/bench/test_injected.py
test_truth: $(VENV)/installed-dev  ## what server and bench measure, against others' clocks (half an hour of a quiet machine; HEYLOOK_TRIALS=20 injects less)
	@HEYLOOK_TEST_TIER=long $(BIN)/python -m pytest -s $(addprefix tests/server/performance/,$(TRUTH)) tests/faults/test_recorder.py $(BENCH_TRUTH) $(ARGS)

test_changed: $(VENV)/installed-dev  ## only tests that name a module changed since the last commit (SINCE=main)
	@$(BIN)/python tools/changed_tests.py --since $(or $(SINCE),HEAD) -- $(ARGS)

build/conformance/installed: tests/conformance/requirements.txt tests/conformance/package.json $(VENV)/installed-dev
	@$(BIN)/python -m venv build/conformance/python
	@build/conformance/python/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@mkdir -p build/conformance/node && cp tests/conformance/package.json build/conformance/node
	@npm install --prefix build/conformance/node --no-audit --no-fund --no-package-lock --loglevel error
	@touch $@

conformance: build/conformance/installed  ## every client's SDK against the server; writes docs/conformance.md (needs Node; 15 minutes)
	@$(BIN)/python -m tests.conformance $(ARGS)

coverage: $(VENV)/installed-dev  ## the tests with a report of the lines they don't reach
	@HEYLOOK_TEST_TIER=commit $(BIN)/python -m pytest --cov --cov-report=term --cov-report=html $(ARGS)

check: $(VENV)/installed-dev  ## format, lint and types, changing nothing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/installed-dev  ## format, and mend what lint can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(VENV)/installed-dev  ## lint and types
	@$(BIN)/ruff check .
	@$(BIN)/mypy

# ---- measurements ----------------------------------------------------------------------------------------------------

build/peers/installed: benchmarks/peers/requirements.txt $(VENV)/installed-dev
	@rm -rf build/peers/site && mkdir -p build/peers
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target build/peers/site -r $<
	@touch $@

bench-peers: build/peers/installed  ## ours beside llama_cpp.server, mlx_lm.server and LLAMA_SERVER=/path/to/llama-server
	@$(BIN)/python -m benchmarks.peers $(if $(LLAMA_SERVER),--llama-server "$(LLAMA_SERVER)") $(ARGS)

bench-servers: build/peers/installed  ## ... and by one spec of our own bench; ARGS="--write docs/bench_servers.md" keeps the report
	@$(BIN)/python -m benchmarks.peers.bench $(if $(LLAMA_SERVER),--llama-server "$(LLAMA_SERVER)") $(ARGS)

# torch before guidellm, by pip's own choice: resolved with the others it would always be CUDA's, several GB that nothing needs
build/truth/installed: $(wildcard benchmarks/truth/*.txt) $(VENV)/installed-dev
	@for tool in genai-bench guidellm; do rm -rf build/truth/$$tool && $(BIN)/python -m venv build/truth/$$tool || exit 1; done
	@build/truth/guidellm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@for tool in genai-bench guidellm; do \
		build/truth/$$tool/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		-r benchmarks/truth/$$tool.txt || exit 1; done
	@touch $@

bench-truth: build/truth/installed  ## our bench, genai-bench and guidellm against a target that logs what is true (20 minutes of a quiet machine)
	@$(BIN)/python -m benchmarks.truth $(ARGS)

# ---- what is shipped -------------------------------------------------------------------------------------------------

build: $(VENV)/installed-$(ACCEL)  ## the wheel, in dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

docs: $(VENV)/installed-docs  ## the documentation, in site/
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict
	@echo "site/index.html"

docs-tables: $(VENV)/installed-dev  ## write the tables of docs/ that the code knows
	@$(BIN)/python tools/write_docs.py

docs-serve: $(VENV)/installed-docs  ## the documentation on http://127.0.0.1:8000, rebuilt on change
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs serve

# ---- the dependencies' lock files (needs uv; fetched into build/ if it isn't there) ------------------------------------

UV = $(or $(shell command -v uv),build/uv/bin/uv)
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

build/uv/bin/uv:
	@$(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install --quiet uv

lock: $(if $(shell command -v uv),,build/uv/bin/uv)  ## resolve the dependencies anew into requirements/*.txt (UPGRADE=--upgrade)
	@mkdir -p build
	@cat requirements/runtime.txt requirements/gguf.txt requirements/dev.txt requirements/docs.txt requirements/mlx.txt requirements/vlm.txt requirements/build.txt \
		2>/dev/null | grep -E '^[a-z]' | sed 's/ *\\$$//' | sort -u > build/all.txt
	@if [ -n "$(UPGRADE)" ]; then : > build/all.txt; fi
	@$(COMPILE) --all-extras pyproject.toml requirements/build.in -o build/all.txt
	@$(COMPILE) --constraint build/all.txt requirements/build.in -o requirements/build.txt
	@$(COMPILE) --constraint build/all.txt pyproject.toml -o requirements/runtime.txt
	@$(COMPILE) --constraint build/all.txt pyproject.toml --extra gguf -o requirements/gguf.txt
	@$(COMPILE) --constraint build/all.txt pyproject.toml --extra mlx -o requirements/mlx.txt
	@$(COMPILE) --constraint build/all.txt pyproject.toml --extra mlx --extra vlm -o requirements/vlm.txt
	@$(COMPILE) --constraint build/all.txt pyproject.toml --extra dev -o requirements/dev.txt
	@$(COMPILE) --constraint build/all.txt pyproject.toml --extra docs -o requirements/docs.txt
	@wc -l requirements/*.txt

lock-bench-truth: $(if $(shell command -v uv),,build/uv/bin/uv)  ## resolve what `make bench-truth` installs anew
	@for tool in genai-bench guidellm; do $(COMPILE) --override benchmarks/truth/overrides.in \
		benchmarks/truth/$$tool.in -o benchmarks/truth/$$tool.txt || exit 1; done

lock-conformance: $(if $(shell command -v uv),,build/uv/bin/uv)  ## resolve what `make conformance` installs anew
	@$(COMPILE) tests/conformance/requirements.in -o tests/conformance/requirements.txt

check-platforms: $(if $(shell command -v uv),,build/uv/bin/uv)  ## whether every dependency has a wheel for each platform we name
	@PATH="$$PWD/build/uv/bin:$$PATH" $(PYTHON) tools/check_platforms.py

clean:  ## remove what was built, but not .venv
	@rm -rf build dist site htmlcov .coverage .coverage.* .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## ... and .venv with the compiled llama.cpp
	@rm -rf $(VENV)
