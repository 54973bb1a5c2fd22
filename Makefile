# make demo | make test | make env | make check | make bench
# Everything is installed into .venv from requirements.lock; nothing outside this folder is touched but runs/ inside it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
NATIVE := $(shell find cuda_ext -type f)
JOBS ?= 2

.PHONY: demo test env check bench clean

env: $(STAMP)

$(VENV)/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "make env: $(PYTHON) is $$($(PYTHON) -V 2>&1); wanted Python 3.11 or 3.12; run make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# The lock is complete, so no resolver runs: mediapipe's own list would bring jax and a desktop OpenCV.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	touch $@

$(STAMP): $(VENV)/.locked pyproject.toml $(NATIVE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: env
	$(BIN)/avatarfit demo --output-dir runs/demo

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	# One thread in each of several test processes: the kernels' own pool would only fight over the cores.
	OMP_NUM_THREADS=1 AVATARFIT_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

bench: env
	mkdir -p runs/bench
	set -e; for script in tools/benchmark_*.py; do \
	  $(BIN)/python $$script --output runs/bench/$$(basename $$script .py).json; done

clean:
	rm -rf build runs .venv
