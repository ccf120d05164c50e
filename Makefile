# Two commands for a newcomer: `make demo` and `make test`. Everything else is for those who change the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench simulate chaos fuzz nightly clean venv format

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# EXECUTOR=docker, as root: containers on a Docker engine of the demo's own, instead of processes. KEEP=1: leave it up.
demo: venv
	@$(BIN)/python -m tests.e2e.demo

bench: venv
	@$(BIN)/python -m tests.bench.run $(ONLY)

# Whole clusters in a simulator. SEEDS=n of them, or SEED=k once more (with WEATHER and SAFETY_MS as a failure printed them).
# MACHINE=plane: the whole control plane over a log that keeps Raft's promises, with fake nodes, users and faults.
simulate: venv
	@$(BIN)/python tests/simulation/run.py --seeds $(if $(SEED),$(SEED)-$(SEED),$(or $(SEEDS),1000)) \
		--machine $(or $(MACHINE),register) $(if $(SAFETY_MS),--safety-ms $(SAFETY_MS)) --weather '$(WEATHER)'

# Real managers in network namespaces, under faults, with clients whose history is judged. Needs root. SECONDS=n, SEED=k,
# MANAGERS=3 or 5, FAULTS=kill,cut,... or all, as a failure printed them; KEEP=1 keeps history and logs also when all is well.
chaos: venv
	@$(BIN)/python -m tests.chaos.run --seed $(or $(SEED),1) --seconds $(or $(SECONDS),120) --managers $(or $(MANAGERS),3) \
		$(if $(FAULTS),--faults $(FAULTS)) $(if $(KEEP),--keep)

# Every reader of what comes from elsewhere, fed with bytes. SECONDS=n for each target, TARGET=x: that one alone. Guided by
# coverage where there is a wheel of atheris; blindly otherwise. What is found stays in build/fuzz/TARGET/found-*.
fuzz: venv
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check \
		--only-binary :all: --constraint constraints.txt atheris || true
	@$(BIN)/python -W ignore -m tests.fuzz.run --seconds $(or $(SECONDS),600) $(if $(TARGET),--target $(TARGET))

nightly: venv
	$(BIN)/python tests/simulation/run.py --seeds 20000
	$(BIN)/python tests/simulation/run.py --seeds 2000 --safety-ms 10000
	$(BIN)/python tests/simulation/run.py --seeds 2000 --machine state
	$(BIN)/python tests/simulation/run.py --seeds 2000 --machine contested
	$(BIN)/python tests/simulation/run.py --seeds 4000 --machine plane
	for i in 1 2 3 4 5; do SWARM_LONG=1 SWARM_CHAOS_S=180 SWARM_CHAOS_SEED=$$i $(BIN)/python -m pytest tests/e2e || exit 1; done
	$(MAKE) chaos SECONDS=1800 MANAGERS=5 FAULTS=all
	$(MAKE) fuzz SECONDS=600

test: venv
	$(BIN)/python -m pytest

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/test_house.py

format: venv
	$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info
