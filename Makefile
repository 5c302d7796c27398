# The commands of the README, and their environment. All others are `snakemake`, `dvc`, `ntkcl` and `pytest`
# inside the environment (`source .venv/bin/activate`).

SHELL := /bin/bash
PYTHON ?= python3
STUDY ?=
export PATH := $(CURDIR)/.venv/bin:$(PATH)
CONFIG := $(if $(STUDY),--config study=$(STUDY))

# Of pip's output, one line for each download of at least 100 MB, and one when all packages are unpacked.
PIP_LINES := grep --line-buffered -Eo "Downloading .*\([0-9]{3,}(\.[0-9]+)? MB\)|^Installing collected packages"

.PHONY: tables report test lint format install lock clean

tables: install
	@snakemake --cores all reports/tables.tex $(CONFIG)
	@ntkcl report show

report: install
	@snakemake --cores all $(CONFIG)
	@snakemake --report reports/report.html $(CONFIG)
	@echo "open $(CURDIR)/reports/report.html in a browser"

test: install lint
	pytest -n 2 --dist worksteal

lint: install
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	lint-imports

format: install
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@echo "installing 6 GB of packages into .venv: 2 to 4 minutes"
	$(PYTHON) -m venv .venv
	pip install --disable-pip-version-check --progress-bar off --require-hashes -r requirements.lock > >($(PIP_LINES))
	pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	  --config-settings editable_mode=compat --editable .
	cp requirements.lock .venv/
	touch $@

# Rewrites requirements.lock for all platforms and Python versions, with hashes (uv writes no address of a registry).
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-header --quiet --output-file requirements.lock

clean:
	rm -rf data backbones runs reports .snakemake
