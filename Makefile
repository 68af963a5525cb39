# Two commands are enough: `make repro` and `make test`. Both build the environment first where it is missing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Stamps: the locked packages, and this project in them. A moved project has another one, and is installed anew.
PLACE  := $(shell pwd | cksum | cut -d' ' -f1)
LOCKED := $(VENV)/.locked-$(PLACE)
READY  := $(VENV)/.ready-$(PLACE)
# Every command runs under the settings that keep the tools quiet and inside the project.
RUN    := $(BIN)/convflow environment --
# What the demonstration sets need beyond what `convflow init` reads off the images.
SET_elpv   := --set train.epochs=30 --set train.batch_size=64 \
              --set train.normalise=image --set train.augment.flips=both --set evaluate.positive=defective \
              --set embed.views=flips
SET_digits :=

.DEFAULT_GOAL := help
.PHONY: help setup repro study test slow lint format lock docs ui bench clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  make repro DATA=digits   the same pipeline on a small set, in two minutes"
	@echo "  make repro DATA=elpv     back to the solar cells (params.yaml names the set in use)"
	@echo "  make test T=tests/test_splitting.py   some of the tests"

setup: $(READY)  ## Build the environment in .venv

$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "convflow: needs Python 3.11 to 3.13, found %d.%d; run: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	@echo "installing the locked environment into $(VENV): about 6 GB, some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@cp $(BIN)/activate $(BIN)/activate.plain && touch $@

$(READY): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src   # pip has byte-compiled the rest
	@cp $(BIN)/activate.plain $(BIN)/activate && $(BIN)/convflow environment --shell >> $(BIN)/activate
	@touch $@

repro: $(READY)  ## Run the main job: from images to a registered model
ifdef DATA
	$(RUN) convflow repro data/dvc.yaml:$(DATA)
	$(BIN)/convflow init data/raw/$(DATA) $(SET_$(DATA))
endif
	$(RUN) convflow repro

study: $(READY)  ## Compare all models under two protocols (studies/elpv)
	$(RUN) convflow repro studies/elpv/dvc.yaml

test: $(READY)  ## Run the fast tests
	$(RUN) pytest $(or $(T),tests) -n 2 --dist loadfile -m "not slow"

slow: $(READY)  ## Run the tests that run the real pipeline
	$(RUN) pytest $(or $(T),tests) -n 2 --dist loadfile -m slow

lint: $(READY)  ## Check style, types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## Resolve requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
	    --no-header --no-annotate --no-emit-index-url --upgrade -o requirements.lock

docs: $(READY)  ## Run what docs/registry.md shows, and write it there anew
	$(RUN) python docs/registry.py

ui: $(READY)  ## Browse runs and models in MLflow, at http://127.0.0.1:5000
	$(BIN)/convflow ui

bench: $(READY)  ## Print the ratios against peers
	$(RUN) python benchmarks/run.py

clean:  ## Remove what can be made again (not data/raw, mlflow.db or the DVC cache)
	rm -rf .convflow .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	rm -rf data/scan data/approved data/splits data/packed data/features data/embedded models predictions reports
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
