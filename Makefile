# Every target sets itself up from nothing but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench soak lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# uv reads the same certificate and index settings as pip does, where only pip's are set.
UV := SSL_CERT_FILE="$${SSL_CERT_FILE:-$${PIP_CERT:-}}" UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-}}" VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv

.venv/.ready: requirements.lock requirements-bootstrap.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("embed-consumer needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-bootstrap.lock
	$(UV) pip install --quiet --require-hashes -r requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup: .venv/.ready  ## install everything, hash-checked, into .venv

demo: .venv/.ready  ## the two-minute proof: real rows become searchable vectors and stay fresh
	$(BIN)/embed-consumer demo

test: check  ## all checks and all tests, on the real services
	$(BIN)/pytest

check: .venv/.ready  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.ready  ## what is generated: docs/semantics.md from the tests, schemas/metrics.md and the dashboards from code
	$(BIN)/python -c 'from consumer.observe import metrics_markdown; print(metrics_markdown(), end="")' > schemas/metrics.md
	$(BIN)/python -m tests.semantics
	$(BIN)/python -m ops.grafana

soak: .venv/.ready  ## half an hour of faults under an independent judge; SOAK="--events 3000 --faults 20 …" for a short one
	$(BIN)/python -m tests.soak --keep $(SOAK)

bench: .venv/.ready  ## all benchmarks; ONLY=<group> for one, QUICK=1 for the ratios that CI guards
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

lock: .venv/.ready  ## resolve the dependencies anew into the hash-checked locks
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements.lock
	grep -A 40 '^uv==' requirements.lock | awk 'NR == 1 || /^    --hash/ {print; next} {exit}' | sed '$$ s/ \\$$//' > requirements-bootstrap.lock

clean:  ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
