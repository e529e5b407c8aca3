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

.PHONY: test demo lint docs bench clean

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

docs: $(VENV)/.installed
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

bench: $(VENV)/.installed
	$(BIN)/python -m tests.benchmarks.price --save price.json $(PRICE_FLAGS)
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
	rm -rf $(VENV) build dist docs/_build
