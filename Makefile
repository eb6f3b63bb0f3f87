# Two commands do all: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
# The CPU build is enough for everything here; name another build with TORCH=...
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test test-slow check-recipes lint install-run install-dev bench clean

demo: install-run
	$(BIN)/deepmmsearch demo

test: install-dev lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# All slow tests, or with PART=1/2 one half of them.
test-slow: install-dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'slow and not gpu' $(if $(PART),--part $(PART))

# Every shipped recipe is built. What this machine lacks (keys, data, a GPU) is told; a wrong setting prints no plan.
check-recipes: install-dev
	set -e; for name in $$($(BIN)/deepmmsearch recipes list --json | sed -n '/"accelerate"/d; s/.*"name": "\([^"]*\)".*/\1/p'); do \
		echo "$$name"; { $(BIN)/deepmmsearch check $$name --json || test $$? = 2; } | $(BIN)/python -m json.tool > /dev/null; \
	done

lint: install-dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

bench: install-dev
	$(BIN)/python benchmarks/engine.py --quick
	$(BIN)/python benchmarks/eval.py --quick

install-run: .venv/.run
install-dev: .venv/.dev

.venv/bin/python:
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed, found ' + sys.version"
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local,engine]'
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,dev]'
	touch $@ .venv/.run

clean:
	rm -rf .venv demo
