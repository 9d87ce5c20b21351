# Two commands do everything on a fresh machine (Python >= 3.11, pip, make):
#   make demo     the set-up, then a hand in 3D from an example photo
#   make test     the set-up, then the test suite
# and make train trains. Each makes .venv first where there is none. README.md has the same as plain commands.
#
# Your own torch: if the interpreter that makes .venv (python3, or the one you name) has a torch in range, .venv uses
# that one and none is installed. VENV_ARGS and PIP_ARGS go to venv and pip, ARGS to the tool itself:
#   make demo PYTHON=/path/to/python IMAGE=photo.jpg
#   make test EXTRAS=dev,open_hand PIP_ARGS=--no-cache-dir
#   make train CONFIG=configs/graphormer.yaml ARGS="train.steps=2 train.batch_size=2"

ifndef PYTHON
PYTHON := $(firstword $(foreach p,python3 python python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
endif
VENV ?= .venv
VENV_ARGS ?=
PIP_ARGS ?=
EXTRAS ?= dev,export
JOBS ?= 2
IMAGE ?= docs/example.jpg
CONFIG ?= configs/graphormer_lite.yaml
ARGS ?=

PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# prints the folder that holds a torch in range, or fails
FIND_TORCH := import pathlib, re, torch; v = [int(x) for x in re.findall("[0-9]+", torch.__version__)[:2]]; \
	assert [2, 6] <= v < [3, 0]; print(pathlib.Path(torch.__file__).parents[1])

.PHONY: demo train test lint wheel clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(PY) tools/demo.py $(IMAGE) --out runs/demo $(ARGS)

train: $(READY)
	$(PY) tools/train.py $(CONFIG) $(ARGS)

test: $(READY)
	$(PY) -m pytest -q -n $(JOBS) $(ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

wheel: $(READY)
	$(PY) -m pip wheel -q --no-deps --no-build-isolation -w dist .

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache

# Made again when the dependencies change. The marker is written last: an interrupted set-up goes on at the next call.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv found (Debian: apt-get install python3-venv). Name one:"; \
		echo "  make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON): torch, torch-geometric, transformers, accelerate, OpenCV and what they need,"
	@echo "in the versions of constraints.txt, from your package index. Nothing outside $(VENV) is changed."
	@$(PYTHON) -m venv $(VENV_ARGS) $(VENV)
	@if own=$$($(PYTHON) -c '$(FIND_TORCH)' 2>/dev/null); then \
		echo "Uses the torch in $$own. To install: about 0.2 GB to download, 1 GB on disk."; \
		echo "$$own" > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/own_torch.pth"; \
		grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt; \
	else \
		echo "To download: about 0.4 GB with a CPU build of torch (1.7 GB on disk). On Linux most indexes give the CUDA build:"; \
		echo "about 3 GB more to download, 7 GB on disk. To use a torch that you have, stop now (Ctrl-C) and say"; \
		echo "  make PYTHON=/path/to/the/python/that/has/it"; \
		cp constraints.txt $(VENV)/constraints.txt; \
	fi
	$(PY) -m pip install --disable-pip-version-check $(PIP_ARGS) -c $(VENV)/constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
