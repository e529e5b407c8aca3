# `make test` and `make demo` start from nothing: they create the environment if there is none.
VENV ?= .venv
PYTHON ?= python3
# On Linux, put "--index-url" and PyTorch's CPU wheel index behind it to avoid a CUDA build of several gigabytes.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
RUNS ?= runs
SEEDS ?= 0 1 2
PYTEST_FLAGS ?=
# For example --compare earlier.json, to print ratios to the price.json of another checkout.
PRICE_FLAGS ?=
# Processes that run the tests, with one thread each: with two, tiny tensors take five to ten times as long.
WORKERS ?= 2

# Environments of the oldest and newest releases, and of the core alone: tests/environments.py says what they run.
ENVIRONMENTS ?= .environments
OLDEST_PYTHON ?= python3.10
OLDEST_TORCH ?= torch==2.6.0
NEWEST_PYTHON ?= $(PYTHON)
NEWEST_TORCH ?= torch
# Further arguments of pip, such as 'lightning==2.5.5'.
NEWEST_OTHERS ?=
# Warnings of dependencies, at releases that we don't choose, are no errors.
WARNINGS := -W ignore::DeprecationWarning -W ignore::FutureWarning -W ignore::PendingDeprecationWarning \
	-W "ignore:Guards may run slower:RuntimeWarning" -W "ignore:The value of the smallest subnormal:UserWarning"

.PHONY: test test-oldest test-newest test-core demo lint docs bench clean

# The stamp is written last, so that an installation that was interrupted is taken up again.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_FLAGS)

# $(call environment,NAME,PYTHON,TORCH,REQUIREMENTS): from nothing, in a folder of its own; prints what was installed.
define environment
	rm -rf $(ENVIRONMENTS)/$(1)
	$(2) -m venv $(ENVIRONMENTS)/$(1)
	$(ENVIRONMENTS)/$(1)/bin/python -m pip install --quiet --upgrade 'pip>=25.1' "tomli>=2; python_version < '3.11'"
	$(ENVIRONMENTS)/$(1)/bin/python -m tests.environments oldest > $(ENVIRONMENTS)/$(1)/oldest.txt
	$(ENVIRONMENTS)/$(1)/bin/python -m pip install --quiet $(3)
	$(ENVIRONMENTS)/$(1)/bin/python -m pip install --quiet $(4)
	$(ENVIRONMENTS)/$(1)/bin/python -m tests.environments row
endef

# $(call run,NAME,TESTS)
run = OMP_NUM_THREADS=1 $(ENVIRONMENTS)/$(1)/bin/python -m pytest $(WARNINGS) $(PYTEST_FLAGS) \
	$$($(ENVIRONMENTS)/$(1)/bin/python -m tests.environments $(2))

test-oldest:
	$(call environment,oldest,$(OLDEST_PYTHON),$(OLDEST_TORCH),\
		--constraint $(ENVIRONMENTS)/oldest/oldest.txt --editable '.[all]' --group versions)
	$(call run,oldest,versions)

test-newest:
	$(call environment,newest,$(NEWEST_PYTHON),$(NEWEST_TORCH),--editable '.[all]' --group versions $(NEWEST_OTHERS))
	$(call run,newest,versions)

test-core:
	$(call environment,core,$(PYTHON),$(TORCH),--editable .)
	$(ENVIRONMENTS)/core/bin/python -m pip install --quiet --group core
	$(call run,core,core)

docs: $(VENV)/.installed
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

bench: $(VENV)/.installed
	$(BIN)/python -m tests.benchmarks.price --save price.json $(PRICE_FLAGS)
	$(BIN)/python -m tests.benchmarks.bench_state
	$(BIN)/python -m tests.benchmarks.bench_imdb
	$(BIN)/python -m tests.benchmarks.soak

demo: $(VENV)/.installed
	for seed in $(SEEDS); do \
	  $(BIN)/lightning fit --config configs/quickstart.yaml --seed_everything $$seed \
	    --trainer.enable_progress_bar false --regularizer null || exit 1; \
	  $(BIN)/lightning fit --config configs/quickstart.yaml --seed_everything $$seed \
	    --trainer.enable_progress_bar false || exit 1; \
	done
	$(BIN)/advdrop report $(RUNS)/quickstart --output report

clean:
	rm -rf $(VENV) $(ENVIRONMENTS) build dist docs/_build
