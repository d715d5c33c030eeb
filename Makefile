# Each target does its own set-up; nothing else has to be run first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.PHONY: demo test test-quick test-real test-ndif test-soak bench-quick check check-families format docs clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) scripts/install.py $(VENV)
	@touch $(READY)

demo: $(READY)  ## the published experiment on a small pair, on this machine, in two minutes
	$(BIN)/statebridge demo

test: $(READY)  ## every test but those that need a real language model
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not real_model and not ndif and not soak'

test-quick: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not real_model and not ndif and not soak and not slow'

test-real: $(READY)  ## opt-in: needs the weights that docs/real-models.md names
	$(BIN)/python -m pytest -m real_model

test-ndif: $(READY)  ## opt-in: needs a real NDIF server; NDIF_WORK names its folder
	$(BIN)/python -m pytest -n0 -m ndif

test-soak: $(READY)  ## opt-in: sixty kills of the server at random moments, forty on a Ray cluster; the GPU script in small
	$(BIN)/python -m pytest -m soak

bench-quick: $(READY)  ## what moved in five hot paths since the committed figures, in under a minute
	$(BIN)/python benchmarks/quick.py

check: $(READY)  ## format, lint, types, English
	$(BIN)/ruff format --check bridge client server tests benchmarks scripts
	$(BIN)/ruff check bridge client server tests benchmarks scripts
	$(BIN)/mypy
	$(BIN)/python scripts/check_english.py

check-families: $(READY)  ## opt-in: a tiny model of every causal architecture; writes docs/families.md
	HF_HUB_OFFLINE=1 $(BIN)/python -m scripts.check_families --out docs/families.md

docs: $(READY)  ## the documentation as a site in site/; fails at a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(READY)
	$(BIN)/ruff format bridge client server tests benchmarks scripts
	$(BIN)/ruff check --fix bridge client server tests benchmarks scripts

clean:
	rm -rf $(VENV) build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
