# Two commands do everything on a fresh machine with Python >= 3.11 and make:
#   make demo   - balance a procedural satellite archive and write its report
#   make test   - linters, types, import contracts and the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint bench circles clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; got $$($(PYTHON) -V). Use: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cpu,dev]"
	@touch $@

demo: $(STAMP)
	$(BIN)/balancer init --demo data/demo
	$(BIN)/balancer run configs/demo.yaml

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

test-all: lint
	$(BIN)/pytest -m "not gpu"

bench: $(STAMP)
	$(BIN)/pytest tests/benchmarks -m "" -s --doctest-modules

circles: $(STAMP)
	$(BIN)/python -m jobs.circles --out runs/circles

clean:
	rm -rf runs/demo runs/circles data/demo
