# Two commands: `make demo` and `make test`. Everything lands in .venv and .evergreen.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
GET_UV := -m pip install --quiet --disable-pip-version-check uv==0.13.9
UV_INSTALL := docker/uv_with_pip_settings.py pip install --quiet

# Scripts that start a real Kubernetes and a real S3 server; tests/real_parts.py says what each must do.
TEST_TOOLS ?= $(or $(EVERGREEN_TEST_TOOLS),$(wildcard $(abspath ../shared/tools)))
REAL := cluster or s3 or broker

.PHONY: demo test test-here test-cluster check stop clean install lock keras xla

demo: install
	$(BIN)/evergreen demo

# Every test; those that need real parts, where there are scripts that start them, beside the others.
test: install
	$(MAKE) --jobs=2 --keep-going --no-print-directory test-here $(if $(EVERGREEN_TEST_TOOLS),test-cluster)

# Threads that spin would take the processors of what runs beside them.
test-here: install
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest $(if $(EVERGREEN_TEST_TOOLS),-m "not ($(REAL))")

test-cluster: install
	@test -n "$(TEST_TOOLS)" || { echo "TEST_TOOLS is empty: name a folder with kube-up and s3-up (tests/real_parts.py)"; exit 1; }
	@test "$$(id -u)" = 0 || { echo "A Kubernetes node of one's own needs root: run as root, or in a container where you are"; exit 1; }
	EVERGREEN_TEST_TOOLS=$(TEST_TOOLS) OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m "$(REAL)"

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

stop:
	@if test -x $(BIN)/evergreen; then $(BIN)/evergreen stop; fi

clean: stop
	rm -rf .evergreen

install: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python {v.major}.{v.minor} found, 3.11 to 3.13 wanted: make PYTHON=python3.11 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "The venv module is missing: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(GET_UV)
	$(BIN)/python $(UV_INSTALL) -r requirements.txt
	$(BIN)/python $(UV_INSTALL) --no-deps --editable .
	@touch $(STAMP)

# Recompile the locks after changing pyproject.toml: one of everything, and a part of it for each image. torch stays at
# the pinned release on every index; the CUDA libraries of its Linux build are held by a constraint, so that the CPU
# build does not bring 3 GB it cannot use.
COMPILE := $(BIN)/python docker/uv_with_pip_settings.py pip compile --quiet --python-version 3.11 --no-annotate --no-header --no-emit-find-links --no-emit-index-url
CUDA := ^(nvidia-|cuda-|triton=)
# Of what torch 2.9 brings, this is not loaded with it.
UNUSED_CUDA := ^(triton|nvidia-(cusolver|cuda-nvrtc|nvtx)-cu12)==

lock: install
	$(COMPILE) --all-extras pyproject.toml --output-file requirements.txt
	sed -i 's/^torch==\([0-9.]*\)+cpu/torch==\1/' requirements.txt
	$(COMPILE) --extra serving --constraint requirements.txt pyproject.toml --output-file docker/serving/requirements.txt
	$(COMPILE) --extra airflow --constraint requirements.txt pyproject.toml --output-file docker/airflow/requirements.txt
	$(COMPILE) --extra training --constraint requirements.txt pyproject.toml --output-file docker/trainer/requirements.txt
	grep -E '$(CUDA)' docker/trainer/requirements.txt > docker/trainer/cuda.txt
	sed -i -E '/$(CUDA)/d' docker/trainer/requirements.txt requirements.txt
	sed -i '1i --constraint docker/trainer/cuda.txt' requirements.txt
	$(COMPILE) --constraint requirements.txt docker/kernels/requirements.in --output-file docker/kernels/requirements.txt
	$(COMPILE) --extra batch --constraint requirements.txt pyproject.toml docker/keras/requirements.in --output-file docker/keras/requirements.txt
	grep -vE '^--|^torch==|^setuptools==' requirements.txt > $(VENV)/beside-torch.txt
	$(COMPILE) --extra batch --constraint $(VENV)/beside-torch.txt pyproject.toml tests/training/xla.in --output-file tests/training/xla.txt
	sed -i -E '/$(UNUSED_CUDA)/d' tests/training/xla.txt

# An environment of its own for the Keras trainer: TensorFlow and torch in one would fight over the processor's threads.
keras: .venv-keras/installed

.venv-keras/installed: docker/keras/requirements.txt
	$(PYTHON) -m venv .venv-keras
	.venv-keras/bin/python $(GET_UV)
	.venv-keras/bin/python $(UV_INSTALL) -r docker/keras/requirements.txt
	@touch .venv-keras/installed

# Another for PyTorch/XLA, whose last release wants torch 2.9: 6 GB, because that torch does not load without CUDA's libraries.
xla: .venv-xla/installed

.venv-xla/installed: tests/training/xla.txt
	$(PYTHON) -m venv .venv-xla
	.venv-xla/bin/python $(GET_UV)
	.venv-xla/bin/python $(UV_INSTALL) --no-cache --no-deps -r tests/training/xla.txt
	@touch .venv-xla/installed
