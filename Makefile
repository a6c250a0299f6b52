# The two commands of the README are `make demo` and `make test`; `make help` lists the others.
#
# What they do happens in .venv and in build/. `make test PYTHON=python3.12` keeps to an environment of its own (.venv-3.12), so
# several interpreters live side by side. Nothing is done twice: requirements are installed again when pyproject.toml asks for
# others, shoal itself when its sources have changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory
unexport PYTHONHOME PYTHONPATH

PYTHON ?=
ifneq ($(PYTHON),)
KEY := -$(shell '$(PYTHON)' -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
endif
VENV := .venv$(KEY)
BIN := $(VENV)/bin
STATE := $(VENV)/.shoal
ARGS ?=
# Tests wait more than they compute, so two run side by side; `AT_ONCE=0` has pytest run them itself, for a debugger.
AT_ONCE ?= 2
EXHAUST := build/wheel$(KEY)/native/tests/shoal-exhaust

PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# Two who work in one checkout may say `make` at once: what changes the environment is done by one at a time.
ALONE = mkdir -p build && flock build/lock$(KEY) $(MAKE)
# cmake, ninja and clang-format are those of the environment, whatever the system has.
ACTIVATE := export PATH='$(CURDIR)/$(BIN)':"$$PATH"

# --- what a user says ---------------------------------------------------------------------------------------------------

.PHONY: help demo test dev bench fuzz compat foreign exhaust soak sanitize lint format tidy clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12
	echo
	echo "PYTHON=python3.12 chooses the interpreter, ARGS='-k queue' goes to pytest (test), to the benchmarks (bench), to tests/compat (compat), to tests/foreign (foreign), to shoal-exhaust (exhaust) or to the soak (soak)."

demo:  ## build, install, run the demonstration
	@$(ALONE) installed
	'$(BIN)/shoal' demo

test: demo lint  ## the same, then the linters and the whole test suite
	@$(ALONE) native-tests
	$(ACTIVATE)
	echo "== native tests"
	ctest --test-dir 'build/wheel$(KEY)' --output-on-failure --timeout 120
	echo "== tests"
	SHOAL_EXHAUST_PROGRAM='$(CURDIR)/$(EXHAUST)' '$(BIN)/python' -m pytest --numprocesses=$(AT_ONCE) --dist=worksteal $(ARGS)

dev:  ## for work: Python is taken from src/, the core is built in build/dev (repeat after changing C++)
	@$(ALONE) developed

bench: ## compare with the standard library and others
	@$(ALONE) installed requirements-bench
	'$(BIN)/python' -m benchmarks $(ARGS)

fuzz:  ## let atheris look for bytes from a socket that break a promise (ARGS='--seconds 600')
	@$(ALONE) installed
	if ! { $(ALONE) requirements-fuzz; }; then echo "atheris is not to be had for this interpreter"; fi
	'$(BIN)/python' tests/fuzz/run.py $(ARGS)

# Interpreters that are not found, or cannot build, are left out; make test has the running one's part.
compat:  ## the interpreter's own tests on shoal, for each of CPython 3.11 to 3.14 that is found (long)
	@shopt -s nullglob
	interpreters=()
	for version in 3.11 3.12 3.13 3.14; do
	    is="import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')"
	    for python in $(if $(PYTHON),'$(PYTHON)',python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version*/bin/python$$version); do
	        if path=$$(.ci/prerequisites "$$python" 2>/dev/null) && "$$path" -c "$$is"; then
	            if .venv/bin/python -c "$$is" 2>/dev/null; then
	                $(MAKE) PYTHON= compatible
	                interpreters+=(--python .venv/bin/python)
	            else
	                $(MAKE) PYTHON="$$path" compatible
	                interpreters+=(--python ".venv-$$version/bin/python")
	            fi
	            break
	        fi
	    done
	done
	if ((!$${#interpreters[@]})); then echo "no interpreter can be used: .ci/prerequisites says why" >&2; exit 1; fi
	"$${interpreters[1]}" -m tests.compat "$${interpreters[@]}" $(ARGS)

# PyTorch is large, and is used where it is there: `.venv/bin/python -m pip install torch`.
foreign:  ## flake8, compileall, yapf, pylint, joblib and PyTorch's DataLoader, unchanged, on shoal and without it
	@$(MAKE) compatible
	$(ALONE) requirements-foreign
	'$(BIN)/python' -m tests.foreign $(ARGS)

exhaust:  ## kill every operation of the core at every step, and make each of its system calls fail (long)
	@$(ALONE) native-tests
	'$(EXHAUST)' $(ARGS)
	'$(EXHAUST)' --fail $(ARGS)

soak:  ## ten minutes of random kills over running pools and queues (ARGS='--seconds 60 --seed 7')
	@$(ALONE) installed
	'$(BIN)/python' tests/soak $(ARGS)

# ThreadSanitizer of older compilers cannot live with the address randomisation of newer kernels: without it, where one may.
sanitize:  ## the native tests under AddressSanitizer, UBSan and ThreadSanitizer
	@$(ALONE) requirements-build
	$(ACTIVATE)
	here=''
	if setarch -R true 2>/dev/null; then here='setarch -R'; fi
	for kind in address,undefined thread; do
	    echo "== $$kind"
	    cmake -S . -B "build/sanitize-$${kind%%,*}" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	        -DSHOAL_MODULE=OFF -DSHOAL_NATIVE_TESTS=ON -DSHOAL_SANITIZE="$$kind" >/dev/null
	    cmake --build "build/sanitize-$${kind%%,*}"
	    $$here ctest --test-dir "build/sanitize-$${kind%%,*}" --output-on-failure --timeout 600
	done

lint:  ## ruff, mypy, clang-format
	@$(ALONE) requirements-test
	$(ACTIVATE)
	echo "== linters"
	status=0
	'$(BIN)/python' -m ruff check . || status=1
	'$(BIN)/python' -m ruff format --check . || status=1
	'$(BIN)/python' -m mypy || status=1
	find native -name '*.[ch]pp' -print0 | xargs -0r clang-format --dry-run -Werror || status=1
	exit $$status

format:  ## let ruff and clang-format have their way
	@$(ALONE) requirements-test
	$(ACTIVATE)
	'$(BIN)/python' -m ruff check --fix-only .
	'$(BIN)/python' -m ruff format .
	find native -name '*.[ch]pp' -print0 | xargs -0r clang-format -i

tidy: dev  ## clang-tidy (advice: it does not fail)
	@$(ACTIVATE)
	find native -name '*.cpp' -print0 | xargs -0rn1 -P"$$(nproc)" clang-tidy -p 'build/dev$(KEY)' --quiet

clean:  ## remove everything that these targets made
	@rm -rf build dist .venv .venv-3.* .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    src/shoal/_native*.so src/shoal/shoal-watcher
	find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

# --- what these consist of; called under the lock -----------------------------------------------------------------------

.PHONY: environment compatible installed developed native-tests requirements-build requirements-run requirements-test requirements-bench requirements-foreign requirements-fuzz

# An environment fits if it stands where it was made and runs the interpreter that is wanted.
environment:
	@python=$$(.ci/prerequisites '$(PYTHON)')
	identity='import sys; print(sys.version, sys.base_prefix)'
	place='import sys; print(sys.prefix)'
	if [[ "$$('$(BIN)/python' -c "$$identity" 2>/dev/null)" != "$$("$$python" -c "$$identity")" \
	    || "$$('$(BIN)/python' -c "$$place" 2>/dev/null)" != '$(CURDIR)/$(VENV)' \
	    || ! -d '$(STATE)' ]]; then
	    echo "== creating $(VENV) with $$python"
	    rm -rf '$(VENV)'
	    "$$python" -m venv '$(VENV)'
	    mkdir '$(STATE)'
	fi

# Prints what pyproject.toml asks for: `build` is what builds, `run` is what shoal needs, any other name is an extra.
define LIST_REQUIREMENTS
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
lists = {
    "build": [*project["build-system"]["requires"], "cmake" + project["tool"]["scikit-build"]["cmake"]["version"], "ninja"],
    "run": project["project"]["dependencies"],
    **project["project"]["optional-dependencies"],
}
print(*lists[sys.argv[1]], sep="\n")
endef
export LIST_REQUIREMENTS

requirements-build requirements-run requirements-test requirements-bench requirements-foreign requirements-fuzz: requirements-%: environment
	@wanted=$$('$(BIN)/python' -c "$$LIST_REQUIREMENTS" $*)
	if [[ "$$(cat '$(STATE)/requirements-$*' 2>/dev/null)" != "$$wanted" ]]; then
	    echo "== installing what is needed to $*"
	    $(PIP) install --requirement /dev/stdin <<<"$$wanted"
	    echo "$$wanted" >'$(STATE)/requirements-$*'
	fi

# Without build isolation: what builds is in the environment, so build/ keeps what it has and only changes are compiled.
installed: requirements-build requirements-run
	@$(ACTIVATE)
	wanted="wheel $$(find src native pyproject.toml CMakeLists.txt Makefile -type f ! -name '*.pyc' ! -name '_native*.so' \
	    ! -name shoal-watcher ! -path 'native/tests/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum)"
	if [[ "$$(cat '$(STATE)/installed' 2>/dev/null)" != "$$wanted" ]]; then
	    echo "== building and installing shoal"
	    rm -f '$(STATE)/installed'
	    $(PIP) install --no-build-isolation --no-deps --force-reinstall --config-settings=build-dir='build/wheel$(KEY)' .
	    echo "$$wanted" >'$(STATE)/installed'
	fi

# The package is installed as a path to src/, once; the core goes beside the sources. Warnings are errors here, and assertions live.
developed: requirements-build requirements-run requirements-test
	@$(ACTIVATE)
	wanted="dev $$(sha256sum pyproject.toml Makefile | sha256sum)"
	if [[ "$$(cat '$(STATE)/installed' 2>/dev/null)" != "$$wanted" ]]; then
	    echo "== installing src/ for work"
	    rm -f '$(STATE)/installed'
	    $(PIP) install --no-build-isolation --no-deps --force-reinstall --config-settings=wheel.cmake=false \
	        --config-settings=editable.mode=inplace --editable .
	    echo "$$wanted" >'$(STATE)/installed'
	fi
	cmake -S . -B 'build/dev$(KEY)' -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSHOAL_STRICT=ON \
	    -DSHOAL_NATIVE_TESTS=ON -DPython_EXECUTABLE='$(CURDIR)/$(BIN)/python' >/dev/null
	cmake --build 'build/dev$(KEY)' --target _native shoal-watcher
	cmake --install 'build/dev$(KEY)' --prefix src >/dev/null
	cmake --build 'build/dev$(KEY)'

# What `make dev` has put there for this interpreter is shoal as well: it stays.
compatible:
	@if [[ "$$(head -c 3 '$(STATE)/installed' 2>/dev/null)" == dev ]]; then target=developed; else target=installed; fi
	$(ALONE) "$$target"

native-tests: installed
	@$(ACTIVATE)
	echo "== building the native tests"
	cmake -S . -B 'build/wheel$(KEY)' --log-level=WARNING -DSHOAL_NATIVE_TESTS=ON >/dev/null
	cmake --build 'build/wheel$(KEY)'
