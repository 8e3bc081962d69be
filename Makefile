# Two commands matter: `make book` and `make test`. Both need Python 3.11 (or newer) and make, and set up the rest.
# Everything is installed into .venv and built into _build; nothing else in this folder changes.

PYTHON  ?= python3
JOBS    ?= 2
THREADS ?= 1
NB      ?= notebooks/*.ipynb
SETS    ?=
ARGS    ?=

VENV  := .venv
PY    := $(VENV)/bin/python
UV    := $(VENV)/bin/uv
STAMP := $(VENV)/.installed
BUILD := $(CURDIR)/_build

# Compare the outputs of the cells tagged `nbval-check-output`; run every other cell and only ask that it does not raise.
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout 300 --nbval-sanitize-with tests/nbval_sanitize.cfg
# Start-up files and settings of whoever runs this must not change what a notebook prints; JOBS x THREADS should be
# the number of cores.
HERMETIC = IPYTHONDIR="$(BUILD)/ipython" MPLCONFIGDIR="$(BUILD)/matplotlib" OMP_NUM_THREADS=$(THREADS)
OFFLINE  = MIXUP_OFFLINE=1 HF_HUB_OFFLINE=1
PYTEST   = $(HERMETIC) $(OFFLINE) $(PY) -m pytest -n $(JOBS) --dist loadscope $(NBVAL) $(ARGS)
# The data sets this version knows, and where `make test-real` finds the originals: name:folder below DATA.
ALL_SETS   = $$($(PY) -m mixup_modalities data list | awk 'NR > 1 { print $$1 }')
REAL_SETS := mnist:MNIST/raw cifar10:cifar10 speech_commands:SpeechCommands trec:trec ag_news:ag_news

# What sets the PDF, and the packages of Debian that hold it. The date on its title page is that of the last commit.
TEX_TOOLS    ?= xelatex latexmk xindy
TEX_PACKAGES := latexmk texlive-xetex texlive-latex-extra texlive-fonts-recommended texlive-fonts-extra fonts-dejavu xindy
DATED = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s) FORCE_SOURCE_DATE=1 OMP_NUM_THREADS=$(THREADS)

.PHONY: help setup book pdf look test test-real lab data lint format lock notebooks assignments results clean distclean

help: ## Show this list
	@echo "Usage: make <target>"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON=$(PYTHON)  JOBS=$(JOBS) (test processes)  THREADS=$(THREADS) (threads in each)  ARGS= (more for pytest)"

setup: $(STAMP) ## Create .venv and install the locked packages and this one (done by the others when needed)

book: $(STAMP) ## Build the book into _build/html; a warning is an error
	@# Sphinx warns about a page only when it reads it: forget what a failed run has read, or the next one would pass.
	@test -e _build/.built || rm -rf _build/.doctrees
	@rm -f _build/.built
	@$(VENV)/bin/jupyter-book build . -W --keep-going
	@touch _build/.built
	@echo "The book is here: file://$(BUILD)/html/index.html"

pdf: ## Build the whole book as one PDF into _build/pdf (needs xelatex, latexmk and xindy)
	@for tool in $(TEX_TOOLS); do command -v "$$tool" >/dev/null || { \
	  echo "There is no $$tool here. Debian and Ubuntu: apt install --no-install-recommends $(TEX_PACKAGES)" >&2; \
	  echo "Elsewhere install TeX Live or MacTeX. Nothing was changed." >&2; exit 2; }; done
	@$(MAKE) --no-print-directory $(STAMP)
	@rm -rf _build/print/_build/latex
	@$(DATED) $(VENV)/bin/jupyter-book build . --builder latex --path-output _build/print -W --keep-going || { \
	  rm -rf _build/print; exit 1; }
	@echo "==> Setting the pages: xelatex runs three or four times, for some minutes"
	@$(DATED) $(MAKE) -s -C _build/print/_build/latex all-pdf LATEXMKOPTS="-silent -interaction=nonstopmode -halt-on-error" \
	  >_build/print/xelatex.txt 2>&1 || { tail -n 30 _build/print/xelatex.txt >&2; exit 1; }
	@mkdir -p _build/pdf && cp _build/print/_build/latex/mixup-across-modalities.pdf _build/pdf/
	@! test -e _build/.built || $(MAKE) --no-print-directory book
	@echo "The PDF is here: $(BUILD)/pdf/mixup-across-modalities.pdf"

look: $(STAMP) ## Open every page of the built book in headless Chromium: links, maths, sliders, sounds, accessibility
	@test -e _build/.built || { echo "make look needs a built book: make book" >&2; exit 2; }
	$(HERMETIC) $(PY) -m pytest tests/browser_checks.py -n $(JOBS) $(ARGS)

test: $(STAMP) fonts ## Run all tests and all notebooks, on the offline samples
	@rm -rf "$(BUILD)/no-data" && mkdir -p "$(BUILD)/no-data"
	MIXUP_DATA="$(BUILD)/no-data" $(PYTEST) tests notebooks

test-real: $(STAMP) fonts ## Prepare the real data from a local copy (DATA=folder) and run the notebooks on them
	@test -n "$(DATA)" || { echo "make test-real needs DATA=folder, a local copy of the data sets" >&2; exit 2; }
	@test -d "$(DATA)" || { echo "DATA=$(DATA): there is no such folder" >&2; exit 2; }
	@set -e; known=" $$(echo $(ALL_SETS)) "; count=0; for pair in $(REAL_SETS); do \
	  name=$${pair%%:*}; from="$(DATA)/$${pair#*:}"; \
	  case "$$known" in *" $$name "*) ;; *) continue ;; esac; \
	  test -e "$$from" || { echo "$$name: nothing at $$from, so the offline sample stands in for it"; continue; }; \
	  MIXUP_DATA="$(BUILD)/data" $(PY) -m mixup_modalities data prepare "$$name" --from "$$from"; \
	  count=$$((count + 1)); \
	done; \
	test $$count -gt 0 || { echo "DATA=$(DATA): none of the data sets is there" >&2; exit 1; }
	MIXUP_DATA="$(BUILD)/data" $(PYTEST) notebooks

lab: $(STAMP) ## Open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab --notebook-dir=notebooks

data: $(STAMP) ## List the data sets; SETS="mnist ..." downloads and prepares some, SETS=all every one
	@test -z "$(SETS)" || $(PY) -m mixup_modalities data prepare $(if $(filter all,$(SETS)),$(ALL_SETS),$(SETS))
	@$(PY) -m mixup_modalities data list

lint: $(STAMP) ## Check style and format: package, tests, notebooks
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

format: $(STAMP) ## Mend style and format where ruff can
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

lock: $(UV) ## Write requirements.txt from pyproject.toml, keeping versions that still fit (ARGS=--upgrade renews them)
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-emit-index-url \
	  --custom-compile-command "make lock" $(ARGS) -o requirements.txt >/dev/null

notebooks: THREADS = 2
notebooks: $(STAMP) fonts ## Execute notebooks and save their outputs; NB=notebooks/one.ipynb does one
	$(HERMETIC) $(PY) book/_tools/notebooks.py run $(NB)

assignments: $(STAMP) ## Make the student and autograder versions into _build/assignments (ARGS=--check runs the solutions)
	@$(HERMETIC) $(PY) assignments/build.py $(ARGS)

results: $(STAMP) ## Show the ledger of results: mean, interval, n
	@$(PY) -m mixup_modalities results show

clean: ## Remove what was built; the packages in .venv stay
	rm -rf _build .pytest_cache .ruff_cache .hypothesis

distclean: clean ## Remove .venv too
	rm -rf $(VENV)

# matplotlib announces on stderr that it builds its font cache, once per machine: not inside somebody's notebook.
.PHONY: fonts
fonts: $(STAMP)
	@$(HERMETIC) $(PY) -c "import matplotlib.font_manager"

$(UV): requirements.txt
	@test -x $(PY) || command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else \
	  "$(PYTHON) is Python %d.%d; 3.11 or newer is needed. If you have one: make $(MAKECMDGOALS) PYTHON=python3.11" % v)'
	@test -x $(PY) || { echo "==> Creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); } || { \
	  rm -rf $(VENV); echo "python -m venv failed. On Debian and Ubuntu it is a package of its own: apt install python3-venv" >&2; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.txt)"
	@touch $(UV)

$(STAMP): requirements.txt pyproject.toml | $(UV)
	@echo "==> Installing $$(grep -c '==' requirements.txt) locked packages into $(VENV) (about 5 GB the first time)"
	@$(UV) pip install --python $(PY) -r requirements.txt || { \
	  echo "==> uv could not install them; trying pip, which is slower"; \
	  $(PY) -m pip install --disable-pip-version-check -r requirements.txt; }
	@echo "==> Installing this package"
	@$(UV) pip install --python $(PY) --no-deps --editable . || $(PY) -m pip install --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)
