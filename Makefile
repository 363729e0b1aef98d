# Two commands matter: `make demo` and `make test`. Each sets up .venv by itself when it must.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= python3
WORKERS ?= 3

# Some machines keep Python from storing what it compiled; here hundreds of processes run the same code.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test chaos check format bench clean

demo: $(STAMP)
	@$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

# The campaigns of kills, ten times as long as `make test` has them and on both stores, and all clocks in full.
chaos: $(STAMP)
	CHAOS_MESSAGES=10000 CHAOS_EVENTS=2000 CHAOS_KILLS=200 CHAOS_CLOCKS=full $(BIN)/pytest -v $(ARGS) \
		tests/acceptance/test_pubsub_campaign.py tests/acceptance/test_kill_campaign.py \
		tests/service/test_clock_campaign.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/architecture

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Millrace needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)
