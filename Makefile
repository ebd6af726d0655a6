# Run, test and check SOLLOL; `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check static format requirements docs services services-stop bench-overhead \
	bench-throughput bench-routing bench-decisions bench-dashboard bench-history bench-chaos bench-embeddings bench-batch \
	screenshots clean

PY := .venv/bin/python
COMPILE := CUSTOM_COMPILE_COMMAND="make requirements" $(PY) -m piptools compile --quiet --generate-hashes --allow-unsafe \
	--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
CODE := sollol_site fleet routing simulator

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## start gateway, worker and nodes; Ctrl-C stops them
	@scripts/venv base
	@exec $(PY) manage.py up

test: ## run every test; see scripts/services for what some of them need
	@scripts/venv dev
	@$(PY) -m pytest -n 2 --dist loadfile

check: static test ## everything that CI runs: format, lint, types, contracts, deployment, migrations, tests

static: ## the checks without the tests
	@scripts/venv dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy $(CODE)
	.venv/bin/lint-imports
	SOLLOL_HTTPS=true $(PY) manage.py check --deploy --fail-level WARNING
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) -m scripts.openapi

format: ## format the code and apply safe lint fixes
	@scripts/venv dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

requirements: ## pin requirements/*.in anew; UPGRADE=1 takes the newest versions
	@scripts/venv dev
	$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements/base.txt requirements/base.in
	$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements/dev.txt requirements/dev.in
	$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements/otel.txt requirements/otel.in
	$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements/dask.txt requirements/dask.in

docs: ## write the settings table, .env.example and docs/openapi.yaml from the code
	@scripts/venv dev
	$(PY) -m scripts.settings_table --write
	$(PY) -m scripts.openapi --write

services: ## install and start PostgreSQL and Redis for the tests; installs Chromium and Node.js
	@scripts/services

services-stop: ## stop what `make services` started
	@scripts/services stop

bench-overhead: ## measure the gateway's CPU per request and per streamed chunk; writes benchmarks/results/overhead.md
	@scripts/venv dev
	$(PY) -m benchmarks.overhead

bench-throughput: ## measure how throughput grows with 1, 2, 4, 8 simulated nodes; writes benchmarks/results/throughput.md and .svg
	@scripts/venv dev
	$(PY) -m benchmarks.throughput

bench-routing: ## compare routing with other balancers in virtual time, some ten minutes; ARGS=--quick takes one or two
	@scripts/venv dev
	$(PY) -m benchmarks.routing $(ARGS)

bench-decisions: ## measure what one decision and one pass cost; writes benchmarks/results/decisions.md
	@scripts/venv dev
	$(PY) -m benchmarks.decisions --write

bench-dashboard: ## measure what viewers of the live dashboard cost the gateway; writes benchmarks/results/dashboard.md
	@scripts/venv dev
	$(PY) -m benchmarks.dashboard

bench-history: ## measure lists of a long history; ARGS='--rows 1000000 --postgresql URL --write' writes benchmarks/results/history.md
	@scripts/venv dev
	$(PY) -m benchmarks.history $(ARGS)

bench-chaos: ## let nodes fail in ten ways behind SOLLOL, nginx and HAProxy, some two minutes; ARGS="--seed N --seconds S"
	@scripts/venv dev
	$(PY) -m benchmarks.chaos $(ARGS)

bench-embeddings: ## measure what joining, splitting and caching embeddings gains; writes benchmarks/results/embeddings.md
	@scripts/venv dev
	$(PY) -m benchmarks.embeddings $(ARGS)

bench-batch: ## run batch jobs on 1, 2, 4, 8 unequal nodes, and one of 100,000 texts; some ten minutes; ARGS="--seconds S"
	@scripts/venv dev
	$(PY) -m benchmarks.batch $(ARGS)

screenshots: ## take the pictures of README and docs from a demo fleet, in Chromium
	@scripts/venv dev
	$(PY) -m scripts.screenshots

clean: ## remove .venv and caches; the data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
