# Entry point for all tasks: `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGE_BUILDER ?= docker

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test gitops clients check generate lock e2e e2e-keda bench bench-loadgen bench-operator images kind-load vendor screenshots bench-simulator docs recording clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## create the virtual environment

$(VENV)/.ready: requirements/dev.txt pyproject.toml VERSION
	@scripts/setup $(PYTHON) $(VENV)
	@touch $@

demo: $(VENV)/.ready ## run the metering proxy, the dashboard and a short load test on this machine (KEEP=1: leave them up)
	@$(BIN)/llmendpoint demo $(if $(filter-out 0 no false,$(KEEP)),--keep)

up: $(VENV)/.ready ## start proxy, metrics, dashboard and Prometheus on this machine (UP='--traffic 1': more options)
	@$(BIN)/llmendpoint up $(UP)

down: $(VENV)/.ready ## end what up or demo KEEP=1 started
	@$(BIN)/llmendpoint down

test: $(VENV)/.ready ## run unit, component and API tests
	@scripts/test $(BIN)

gitops: ## check how Flux, Helm and Argo CD read the statuses, and prometheus-adapter its rules (needs Go)
	@cd tests/gitops && go test -count=1 ./...  # -count=1: the cache of go test ignores changed files outside the module
	@cd tests/adapter && go test -count=1 ./...

clients: $(VENV)/.ready ## run client libraries against a real Ollama, directly and through the proxy
	@scripts/clients $(BIN)

check: $(VENV)/.ready ## run all checks of CI that do not run the product
	@scripts/check $(BIN)

docs: $(VENV)/.ready ## build the site of the documentation in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site is in build/site. Its links and its search need a web server:"
	@echo "$(BIN)/python -m http.server --directory build/site --bind 127.0.0.1 8080"

generate: $(VENV)/.ready ## rewrite CRDs, chart files, manifests and schemas from their sources
	@$(BIN)/python scripts/generate.py

vendor: $(VENV)/.ready ## copy the libraries of the dashboard's pages from npm again
	@scripts/vendor $(BIN)

screenshots: $(VENV)/.ready ## write the screenshots of the dashboard in docs/images (needs Chromium)
	@scripts/screenshots $(BIN)

recording: $(VENV)/.ready ## record the terminal session in the README again
	@$(BIN)/python scripts/record.py

lock: $(VENV)/.ready ## resolve the requirement files again
	@scripts/lock $(BIN)

e2e: $(VENV)/.ready ## run the cluster tests on the current KUBECONFIG (or on a new kind cluster)
	@scripts/e2e $(BIN)

e2e-keda: $(VENV)/.ready ## run the test of autoscaling on the current KUBECONFIG, which has KEDA and Prometheus (5 minutes)
	@$(BIN)/python -m pytest tests/cluster -m keda -p no:cacheprovider -o addopts="--import-mode=importlib -ra -v"

bench: $(VENV)/.ready ## measure the proxy: its peers, a scrape, a long upload, 100,000 requests (half an hour, both cores)
	@$(BIN)/python bench/proxy/run.py --out build/bench.json
	@$(BIN)/python bench/proxy/warm.py
	@$(BIN)/python bench/proxy/scrape.py
	@$(BIN)/python bench/proxy/upload.py
	@$(BIN)/python bench/proxy/reconcile.py

bench-operator: $(VENV)/.ready ## measure the operator with 1,000 endpoints beside controller-runtime (a quarter of an hour, both cores)
	@$(BIN)/python bench/operator/run.py --out build/bench-operator.json
	@$(BIN)/python bench/operator/warm.py

bench-simulator: $(VENV)/.ready ## measure the simulator beside the C program of the proxy's benchmark (four minutes, both cores)
	@$(BIN)/python bench/simulator/run.py --out build/bench-simulator.json

bench-loadgen: $(VENV)/.ready ## measure the load generator beside its peers from PyPI (a quarter of an hour, both cores)
	@$(BIN)/python bench/loadgen/run.py --out build/bench-loadgen.json

images: ## build the images (IMAGE_BUILDER=docker|podman)
	@scripts/images $(IMAGE_BUILDER)

kind-load: ## load the images into the kind cluster
	@for name in operator sidecar loadjob dashboard; do kind load docker-image ghcr.io/llmendpoint/$$name:$$(cat VERSION); done

clean: ## remove everything that the targets created
	rm -rf $(VENV) build dist results .mypy_cache .ruff_cache .pytest_cache .hypothesis
