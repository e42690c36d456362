# Two commands matter: `make quickstart` and `make test`. Both need Python 3.10 or newer, git, make
# and a package index, and nothing else; both can be interrupted and run again.

PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
# Another seed gets a folder of its own, so that it does not resume the first one's run.
OUTPUT ?= output/quickstart$(if $(filter-out 0,$(SEED)),-seed$(SEED))
CONFIG ?= configs/clevr/supervised_lean.yaml
export DETECTRON2_DATASETS ?= datasets
# Worker processes of the test run.
TEST_JOBS ?= 2
TESTS ?= tests
PIP_VERSION := 26.3

PY := $(VENV)/bin/python
# Stamps are written after the last step of an installation: an interrupted one is taken up again.
ENV := $(VENV)/.slotseg-installed
DEV_ENV := $(VENV)/.slotseg-dev-installed

.PHONY: help quickstart env dev-env data train report test lint format clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON VENV SEED OUTPUT CONFIG DETECTRON2_DATASETS TEST_JOBS TESTS"

quickstart: report ## install, make scenes, train, evaluate and write an HTML report
	@echo "Report: $(OUTPUT)/report.html"

env: $(ENV) ## install SlotSeg and what it needs into $(VENV)

dev-env: $(DEV_ENV) ## the same, with what tests and checks need

data: $(ENV) ## generate the CLEVR-like scenes
	$(PY) tools/generate_clevr.py --splits train tune val

train: data ## train and evaluate the quickstart's model
	$(PY) tools/train_net.py --config-file $(CONFIG) --resume --num-gpus 0 \
		SEED $(SEED) OUTPUT_DIR $(OUTPUT)

report: train ## write the HTML report of $(OUTPUT)
	$(PY) tools/report.py --run $(OUTPUT)

test: $(DEV_ENV) ## run the whole test suite
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(TEST_JOBS) $(TESTS)

lint: $(DEV_ENV) ## check style without changing files
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(DEV_ENV) ## reformat the sources
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove caches and build products; environment, data and runs stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find slotseg tests tools datasets -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment whose pip does not run was cut off while it was made, or in pip's own upgrade.
$(ENV): requirements.txt setup.py pyproject.toml tools/install_detectron2.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "error: Python 3.10 or newer is needed; name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { \
		rm -rf $(VENV)/lib/python*/site-packages/pip $(VENV)/lib/python*/site-packages/pip-*; \
		echo $(PYTHON) -m venv $(VENV); $(PYTHON) -m venv $(VENV); }
	$(PY) -m pip install pip==$(PIP_VERSION)
	$(PY) -m pip install -r requirements.txt
	$(PY) tools/install_detectron2.py
	$(PY) -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_ENV): $(ENV) requirements-dev.txt
	$(PY) -m pip install -r requirements-dev.txt
	@touch $@
