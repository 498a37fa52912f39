# The study by its commands; `make help` lists them. Python >= 3.11, make and git are all it needs.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PROFILE ?= reference
TOWERS ?= auto
# The first of these that runs, is new enough and can make an environment is taken.
# 3.11 comes first because the pins in constraints.txt were tested with it.
PYTHON ?= python3.11 python3.12 python3.13 python3 python

# What is given is text: neither make nor a shell reads it. Recipes take it from the environment.
GIVEN := PROFILE TOWERS PYTHON NB P N SEED
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed
# A current pip first: it finds what to install in a third of the time. Modules are compiled when
# they are first imported, which most of them never are.
PIP_INSTALL := $(PY) -m pip install --quiet --constraint constraints.txt
BOOK := _build/html
STUDY := $(PY) -m tamrl study --profile "$$PROFILE" --towers "$$TOWERS"

# One thread a process: training runs folds and seeds as processes of their own, and idle OpenMP
# threads that spin can slow a busy machine down a hundredfold.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
# Tensors that come and go keep their pages: glibc would have them zeroed anew at each step, which at
# hidden size 128 is a quarter of a training step. Bytes; ignored by other C libraries.
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 1073741824
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1
# Modules are compiled when they are first imported, and must then be kept, whatever is set outside.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install book notebook test test-slow mutants lint format bench browser colab verify serve clean

help: ## list the commands
	@echo "make COMMAND [PROFILE=reference|smoke|paper] [TOWERS=auto|fluxnet2015|virtual]"; echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | awk -F'|' '{printf "  %-10s %s\n", $$1, $$2}'
	@echo; echo 'make notebook NB=03 P="seed=7 folds=5" executes one notebook with other parameters.'
	@echo "PROFILE=smoke takes minutes, reference a quarter of an hour, paper wants a GPU (REPRODUCING.md)."

install: $(DEVELOPED) ## make the environment in .venv, tools for tests included, as constraints.txt pins it
	@echo "The environment is in $(VENV). Activate it with: source $(VENV)/bin/activate"

$(PY):
	@for p in $$PYTHON; do \
	  if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making $(VENV) with $$("$$p" --version) ($$p)"; "$$p" -m venv --clear $(VENV); exit 0; \
	  fi; \
	done; \
	echo "No Python >= 3.11 with venv among: $$PYTHON." >&2; \
	echo "Install one (Debian: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12" >&2; exit 1

# The stamp is written last: an installation that was broken off is taken up again.
$(INSTALLED): EXTRAS := book
$(DEVELOPED): EXTRAS := book,dev
$(INSTALLED) $(DEVELOPED): pyproject.toml constraints.txt | $(PY)
	@echo "Installing what constraints.txt pins into $(VENV): about 2 GB, a few minutes, once"
	@$(PIP_INSTALL) --upgrade pip
	@$(PIP_INSTALL) --no-compile --editable ".[$(EXTRAS)]"
	@touch $(INSTALLED) $@

book: $(INSTALLED) ## execute the notebooks that changed and build the book
	@$(STUDY)

notebook: $(INSTALLED) ## execute one notebook, NB=03, with parameters P="name=value name=value"
	@test -n "$$NB" || { echo 'Which one? make notebook NB=03 P="seed=7 folds=5"' >&2; exit 2; }
	@case "$$P" in *\\*) false;; *) printf '%s\n' "$$P" | xargs -r true 2> /dev/null;; esac || \
	  { echo "P=$$P: a quote is not closed, or a backslash is there; nothing was run" >&2; exit 2; }
	@{ printf '%s\0' --only "$$NB"; printf '%s\n' "$$P" | xargs -r printf -- '--param=%s\0'; } | xargs -0 $(STUDY)

verify: $(INSTALLED) ## run the study on real towers and compare its tables with the committed ones
	@$(PY) -m tamrl study --profile reference --towers fluxnet2015 --no-book
	@$(PY) -m tamrl.study.runner.verify

# Not among the tests: the walk through the built book (make browser), the rules of the house (make lint).
PYTEST := -m pytest -n 2 --dist loadfile --benchmark-disable --doctest-modules \
  --ignore tests/test_browser.py --ignore tests/house

test: $(DEVELOPED) ## run the quick tests, doctests included; they need no network
	@$(PY) $(PYTEST) -m "not slow" tamrl tests
	@echo "Tests passed. The longer ones: make test-slow. The built book in a browser: make browser"

test-slow: $(DEVELOPED) ## run the tests that take longer than a few seconds each
	@$(PY) $(PYTEST) -m slow tests

mutants: $(DEVELOPED) ## put small faults into the code, N=100 of SEED=0 one by one, and list what no test sees
	@$(PY) tests/mutants.py --count "$${N:-100}" --seed "$${SEED:-0}"

lint: $(DEVELOPED) ## check style, types, the rooms and their imports, and the rules of the house (tests/house)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy tamrl
	@$(VENV)/bin/lint-imports
	@$(PY) -m pytest --quiet -p no:cacheprovider tests/house
	@find notebooks -name '*.ipynb' -print0 | xargs -0 -r $(PY) -m nbstripout --verify
	@echo "Style, types and rooms are in order. make format repairs what a machine can."

format: $(DEVELOPED) ## repair style, strip outputs from the notebooks
	@$(PY) -m ruff check --fix --exit-zero .
	@$(PY) -m ruff format .
	@find notebooks -name '*.ipynb' -print0 | xargs -0 -r $(PY) -m nbstripout

bench: $(DEVELOPED) ## time whole commands and stages, ten minutes on a free machine: _build/speed.json
	@$(PY) -m tamrl.study.cost.bench --out _build/speed.json
	@echo "Measured: _build/speed.json. The notebook 13_cost shows the measurements in results/speed."

browser: $(DEVELOPED) tests/browser/node_modules ## walk through the built book in Chromium (needs node, npm and chromium)
	@echo "Screenshots of the pages: _build/screenshots/"
	@$(PY) -m pytest tests/test_browser.py

tests/browser/node_modules: tests/browser/package.json
	@cd tests/browser && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --silent
	@touch $@

colab: ## run all notebooks, smoke setting, in a clean environment with older packages, as a hosted one has
	@tests/colab.sh

serve: $(INSTALLED) ## show the built book on http://localhost:8000
	@test -f $(BOOK)/index.html || { echo "There is no book yet: make book" >&2; exit 1; }
	@echo "The book: http://localhost:8000 (stop with Ctrl-C)"
	@$(PY) -m http.server --directory $(BOOK) --bind 127.0.0.1 8000

clean: ## remove what was built and computed; keeps .venv and the data cache
	@rm -rf _build book/notebooks runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	@echo "Removed _build, book/notebooks, runs and tool caches. Kept .venv and the data cache."
