# The verbs of a developer. `make demo` and `make test` set everything up themselves.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test quick check docs bench bench-quality lock clean

demo: $(INSTALLED)          ## a complete run on a phantom: no data, no network
	$(BIN)/tabib demo

test: $(INSTALLED)          ## every test that this machine can run
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup

quick: $(INSTALLED)         ## the tests that take seconds
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow and not browser and not real"

check: $(INSTALLED)         ## style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(INSTALLED)          ## write docs/reference from the code
	$(BIN)/python docs/make_reference.py

bench: $(INSTALLED) .venv-keras/.installed  ## speed and memory, as ratios of one run
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/near_copies.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/segmentation.py
	$(BIN)/python benchmarks/segmentation_metrics.py
	$(BIN)/python benchmarks/volumes.py

bench-quality: $(INSTALLED) ## quality on real images: hours
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/quality_masks.py

lock: $(INSTALLED)          ## resolve requirements.lock anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml --extra lite0 --group dev --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header --python-version 3.11 --python-platform x86_64-manylinux_2_28 -o requirements.lock

clean:                      ## remove what can be made again
	rm -rf .venv build dist .pytest_cache .ruff_cache .import_linter_cache

.venv-keras/.installed: benchmarks/peers/keras.txt
	$(PYTHON) -m venv .venv-keras
	.venv-keras/bin/pip install --quiet --disable-pip-version-check -r benchmarks/peers/keras.txt
	touch $@

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tabib needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
