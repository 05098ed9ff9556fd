# One command each: serve, test, check, site, bench, test-all. Every one does its own set-up.
# PYTHON is the interpreter for the virtual environment (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait for something real, so more workers than cores; the slow files come first.
SPREAD := -n 4 --dist loadfile --no-loadscope-reorder
# What failed beside others has to pass alone, and is reported both times: a busy machine is no defect.
ALONE := --last-failed --last-failed-no-failures none
# Documents and style are part of `make check`.
QUICK := -m "not slow and not chaos and not browser" --ignore=tests/docs --ignore=tests/style
SLOW := -n 3 --dist loadfile --no-loadscope-reorder -m "slow or chaos or browser" --ignore=tests/docs
LIBRARY := tests/unit tests/laws tests/property -m "not slow and not chaos"
# What Linux has and macOS has not.
LACKING := prctl,pidfds,waitid
READY := $(VENV)/.ready
SITE_READY := $(VENV)/.site-ready

.PHONY: serve test test-all check site format bench wheel clean
.DEFAULT_GOAL := test

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Frontdesk needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(SITE_READY): requirements/docs.txt $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/docs.txt
	@touch $@

serve: $(READY)  ## start the gateway in development mode on 127.0.0.1:4000
	$(BIN)/frontdesk serve --dev

test: $(READY)  ## the suite, on one interpreter
	$(BIN)/python -m pytest $(SPREAD) $(QUICK) \
		|| $(BIN)/python -m pytest $(ALONE)

test-all: $(READY)  ## also slow, chaos and browser tests, frameworks, every other interpreter at hand
	$(BIN)/python -m pytest $(SLOW) || $(BIN)/python -m pytest $(ALONE)
	FRONTDESK_NO_PIDFD=1 $(BIN)/python -m pytest -q $(SPREAD) $(LIBRARY) \
		|| FRONTDESK_NO_PIDFD=1 $(BIN)/python -m pytest $(ALONE)
	FRONTDESK_TEST_LACKING=$(LACKING) $(BIN)/python -m pytest -q $(SPREAD) $(LIBRARY) \
		|| FRONTDESK_TEST_LACKING=$(LACKING) $(BIN)/python -m pytest $(ALONE)
	$(BIN)/python tests/frameworks.py
	$(BIN)/python tests/interpreters.py

check: $(READY) $(SITE_READY)  ## format, lint, types, imports, style, API description, documents, site
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/zensical build --strict --clean
	$(BIN)/python -m pytest -q $(SPREAD) tests/docs tests/style || $(BIN)/python -m pytest $(ALONE)

site: $(SITE_READY)  ## the documents as a site, into site/; a warning is an error
	$(BIN)/zensical build --strict --clean

format: $(READY)  ## formats, fixes what can be fixed, and writes the documents' tables, commands and pictures
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	PYTHONPATH=tests $(BIN)/python -m docs.tables
	PYTHONPATH=tests $(BIN)/python -m docs.commands
	PYTHONPATH=tests $(BIN)/python -m docs.pictures
	PYTHONPATH=tests $(BIN)/python -m docs.screenshots

bench: $(READY)  ## ratios against named baselines, in one run
	$(BIN)/python -m bench

wheel: $(READY)
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .

clean:
	rm -rf .venv .venv-* .cache dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
