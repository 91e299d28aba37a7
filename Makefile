# Each target makes .venv by itself. A fresh machine needs Python 3.11 or newer, with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
PHOTOS ?=
TESTS ?=
ONLY ?=
ENV ?= .envs/$(notdir $(PYTHON))
WITHOUT_TORCH := heif,umap,raw,jxl,parquet,explore,parallel,faiss,remote,ray,dev
RESOLUTION ?= highest
READMES := README.md $(wildcard */README.md) tests/benchmarks/README.md

.PHONY: demo test test-base test-lowest test-elsewhere test-ray-launcher check format bench soak audit clean

demo: .venv/base  ## ingest a small gallery, recommend for one picture, draw the map
	@PHOTOS="$(PHOTOS)" PYTHON=$(BIN)/python bash tests/demo.sh

test: .venv/all  ## all tests; TESTS="tests/test_images.py -k exif" for some
	$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

test-base:  ## what needs no torch, in an environment of its own; PYTHON=python3.13 for another Python
	$(PYTHON) -m venv --clear '$(ENV)'
	'$(ENV)/bin/python' -m pip install --quiet uv
	'$(ENV)/bin/uv' pip install --quiet --python '$(ENV)/bin/python' --resolution $(RESOLUTION) -e '.[$(WITHOUT_TORCH)]' $(BESIDE)
	'$(ENV)/bin/python' -m pytest -n 2 --dist worksteal $(PYTEST) $(TESTS)

test-lowest:  ## the same with the oldest libraries that pyproject.toml allows; before a release
	$(MAKE) test-base ENV=.envs/lowest RESOLUTION=lowest-direct PYTEST='-W ignore::DeprecationWarning'

test-elsewhere:  ## the same as a stranger may find it: see tests/elsewhere.sh; before a release
	PYTHON=$(PYTHON) bash tests/elsewhere.sh "$(TESTS)"

test-ray-launcher:  ## Hydra's launcher for Ray, which wants a cloudpickle older than others do: in an environment of its own
	$(MAKE) test-base ENV=.envs/ray-launcher WITHOUT_TORCH=dev BESIDE=hydra-ray-launcher TESTS='tests/test_sweep.py -k elsewhere'

check: .venv/all  ## format, lint, types, layers, generated parts of the READMEs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cog --check $(READMES)

format: .venv/all  ## put right what can be put right by machine
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/cog -r $(READMES)

bench: .venv/all  ## what is measured, as ratios in one run; ONLY=startup for one part
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(ONLY)

audit: .venv/all  ## known vulnerabilities of what is installed; it fails where they cannot be looked up
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip freeze --exclude-editable | $(BIN)/pip-audit --strict --no-deps --disable-pip -r /dev/stdin

soak: .venv/all  ## long jobs that try to lose something; ONLY=kills for one part, ONLY="kills kills=10" for less of it
	@PYTHONPATH=tests $(BIN)/python -m soak $(ONLY)

clean:
	rm -rf .venv .envs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "imgrec needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv

.venv/base: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

.venv/all: pyproject.toml | .venv/bin/python  # what is never imported need not be compiled: that took a minute
	$(BIN)/python -m pip install --quiet --no-compile -e '.[all,dev]'
	@touch $@ .venv/base
