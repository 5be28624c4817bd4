# Two commands for a fresh machine with Python >= 3.11:
#
#   make demo    serve the four examples, each with a page
#   make test    every gate, from cheap to dear
#
# What they make is under .venv and build; `make clean` removes both.

# `make demo` watches this directory, and listens on these ports: for all four examples, and for
# file updates alone, where they are documented to be.
WATCH ?= build/demo
PORT ?= 8000
FILES_PORT ?= 60534

# The first Python here that is new enough and can make virtual environments.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python,$(shell \
	$(name) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $(name))))

BIN := .venv/bin
SOURCES := $(wildcard sselib examples benchmarks tests)

.PHONY: demo test format lint async types coverage wheel clean

demo: .venv/demo
	@mkdir -p $(WATCH)
	$(BIN)/python -m examples.demo --watch $(WATCH) --port $(PORT) --files-port $(FILES_PORT)

test: lint async types coverage wheel

# ---- the environment -----------------------------------------------------------------------------

.venv/pip:
	@test -n '$(PYTHON)' || { echo >&2 'No Python >= 3.11 with venv was found (Debian, Ubuntu:' \
		'apt install python3-venv). Name one: make PYTHON=/path/to/python3'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

.venv/demo: pyproject.toml | .venv/pip
	$(BIN)/pip install --quiet --editable '.[hypercorn,examples]'
	@touch $@

.venv/dev: pyproject.toml | .venv/pip
	$(BIN)/pip install --quiet --editable '.[hypercorn,redis,examples,testing]' --group dev
	@touch .venv/demo $@

# ---- the gates -----------------------------------------------------------------------------------

format: .venv/dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lint: .venv/dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

# All that flake8-async knows, except everywhere
#   106, 114  which are matters of style: how Trio is imported, and a list of our functions to keep
#   122       which is about Trio before 0.27
#   124       since an ASGI application or a log is async because its protocol is
# and in tests, also in those that we ship,
#   2xx       which talk to programs and files, and nothing else waits meanwhile
#   910, 911  since a test is no API of which somebody expects a checkpoint
#   100, 912  since a loop that awaits is what a deadline is put around, and may have no round.
# In a connection of our server, 910 and 912, since what need not wait for a client does not.
# And benchmarks/stream_peers.py is asyncio's.
async: .venv/dev
	$(BIN)/flake8 --select=ASYNC --enable=ASYNC --disable=ASYNC106,ASYNC114,ASYNC122,ASYNC124 \
		--per-file-ignores='tests/*:ASYNC100,ASYNC2,ASYNC910,ASYNC911,ASYNC912 sselib/testing/*log_*.py:ASYNC910 sselib/connection.py:ASYNC910,ASYNC912 sselib/requests.py:ASYNC910 sselib/transport.py:ASYNC910 benchmarks/stream_peers.py:ASYNC' $(SOURCES)

types: .venv/dev
	$(BIN)/mypy $(SOURCES)

# The tests, on the source tree.
coverage: .venv/dev
	@mkdir -p build
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --skip-covered --show-missing
	$(BIN)/coverage json --quiet -o build/coverage.json
	$(BIN)/python tests/coverage_floors.py build/coverage.json

# The library's tests, on its wheel, in a folder without its sources: on every Python named here
# that starts; and on the oldest with the lowest versions that pyproject.toml allows.
PYTHONS := 3.11 3.12 3.13
OLDEST := 3.11
# These test other things, or with frameworks and browsers.
NOT_THE_LIBRARY := test_packaging.py test_readme.py test_frameworks.py test_benchmarks.py \
	test_deploying.py test_examples_shared.py file_updates dex bedrock guild page demo

wheel: .venv/dev
	rm -rf build/dist build/wheel
	$(BIN)/python -m build --outdir build/dist . >build/dist.log || { cat build/dist.log; exit 1; }
	mkdir -p build/wheel
	cp -R tests pyproject.toml build/wheel
	$(BIN)/python -c "$$LOWEST" <pyproject.toml >build/wheel/lowest.txt
	@for version in $(PYTHONS); do $(MAKE) --no-print-directory wheel-$$version || exit 1; done

wheel-%:
	@if $(call python,$*) -c ''; then $(MAKE) --no-print-directory wheel-on-$*; \
		else echo 'Python $* does not start here: the wheel was not tested on it.'; fi

wheel-on-%: CONSTRAIN = $(if $(filter $(OLDEST),$*),--constraint build/wheel/lowest.txt)
wheel-on-%: INSTALL = $(BIN)/pip --python build/wheel/$*/bin/python install --quiet $(CONSTRAIN)
wheel-on-%:
	$(call python,$*) -m venv --without-pip --clear build/wheel/$*
	$(INSTALL) build/dist/*.whl 'pytest>=9'
	cd build/wheel && $*/bin/python -m pytest -c /dev/null --noconftest tests/test_packaging.py
	$(INSTALL) 'sselib[hypercorn,redis,examples,testing]' --group tests
	cd build/wheel && $*/bin/python -m pytest $(NOT_THE_LIBRARY:%=--ignore=tests/%)

# A shim of pyenv starts only when it is told which of pyenv's versions to take.
python = PYENV_VERSION=$$(pyenv whence python$(1) 2>/dev/null | tail -n 1) python$(1)

define LOWEST
import sys, tomllib
project = tomllib.load(sys.stdin.buffer)["project"]
for group in [project["dependencies"], *project["optional-dependencies"].values()]:
    print(*(requirement.replace(">=", "==") for requirement in group), sep="\n")
endef
export LOWEST

clean:
	rm -rf .venv build
