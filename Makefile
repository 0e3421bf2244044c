# The front door: `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGE_BUILDER ?= docker

.DEFAULT_GOAL := help
.PHONY: help setup demo test check generate lock e2e bench images kind-load clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## make the virtual environment

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@scripts/setup $(PYTHON) $(VENV)
	@touch $@

demo: $(VENV)/.ready ## the main job on this machine: meter, drive, judge
	@$(BIN)/llmendpoint demo

test: $(VENV)/.ready ## unit, component and API tests
	@$(BIN)/python -m pytest tests -m "not cluster"

check: $(VENV)/.ready ## everything that CI checks without running the product
	@scripts/check $(BIN)

generate: $(VENV)/.ready ## write CRDs, chart files and manifests anew from their sources
	@$(BIN)/python scripts/generate.py

lock: $(VENV)/.ready ## resolve the requirement files anew
	@scripts/lock $(BIN)

e2e: $(VENV)/.ready ## the whole story on the current KUBECONFIG (or a new kind cluster)
	@scripts/e2e $(BIN)

bench: $(VENV)/.ready ## the proxy beside its peers, a scrape, a long upload, 100,000 requests (half an hour, both cores)
	@$(BIN)/python bench/proxy/run.py --out build/bench.json
	@$(BIN)/python bench/proxy/warm.py
	@$(BIN)/python bench/proxy/scrape.py
	@$(BIN)/python bench/proxy/upload.py
	@$(BIN)/python bench/proxy/reconcile.py

images: ## build the images (IMAGE_BUILDER=docker|podman)
	@scripts/images $(IMAGE_BUILDER)

kind-load: ## put the images into the kind cluster
	@for name in operator sidecar loadjob; do kind load docker-image ghcr.io/llmendpoint/$$name:$$(cat VERSION); done

clean: ## remove what the targets made
	rm -rf $(VENV) build dist results .mypy_cache .ruff_cache .pytest_cache .hypothesis
