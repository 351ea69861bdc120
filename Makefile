VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check sagemaker arm64 clean

help:  ## what there is to run
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.demo: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "turnout needs Python 3.11 or newer"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "turnout needs Python 3.11 or newer"; exit 2; }
	@echo "[setup] Python packages into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "[setup] test and lint tools into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

node_modules/.installed: package.json package-lock.json
	@command -v npm >/dev/null || { echo "turnout needs Node 20 or newer and npm, for the CDK command line"; exit 2; }
	@echo "[setup] CDK command line into node_modules"
	@npm ci --silent --no-audit --no-fund
	@touch $@

demo: $(VENV)/.demo node_modules/.installed  ## set everything up, build, deploy locally, serve, show what to try
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/turnout demo

test: $(VENV)/.dev node_modules/.installed  ## set everything up, run every check and every test
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/ruff check .
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mypy
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -m "not slow" -n 2 --dist loadfile
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -m slow -n 2 --dist loadfile tests/infra tests/model_build \
		--ignore=tests/model_build/gpu_server
	@# the rest one at a time: they start servers and time them
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -m slow --ignore=tests/infra \
		--ignore-glob='tests/model_build/test_*.py'

test-fast: $(VENV)/.dev node_modules/.installed  ## the quick tests, about a minute on two cores
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

check: $(VENV)/.dev  ## lint and types only
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/ruff check .
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mypy

sagemaker: $(VENV)/.demo  ## the SageMaker SDK (0.6 GB) for `turnout train` and its test, in .turnout/sagemaker
	@$(BIN)/python -c 'from model_build import launch, tool_environment as t; t.python_with("sagemaker", launch.SDK)'

arm64: $(VENV)/.demo  ## an emulated arm64 Python (Debian only), so that builds check the cpu variant there too
	@$(BIN)/python -m scripts.arm64

clean:  ## stop the laptop cloud and delete what was made here
	@test ! -x $(BIN)/turnout || $(BIN)/turnout down
	@rm -rf .turnout cdk.out releases
