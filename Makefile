# `make quick`, `make experiment`, `make smollm2`, `make test`, `make lint`. Needs Python 3.11; everything else goes into .venv.
# DEVICE=cuda takes the GPU requirements.

DEVICE ?= cpu
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
REQUIREMENTS := $(if $(filter cuda,$(DEVICE)),requirements-cuda.txt,requirements.txt)
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python,$(shell $(name) -c \
	'import sys; print("$(name)" if sys.version_info[:2] == (3, 11) else "")' 2>/dev/null)))

# One stamp for each set of installed packages: nothing is installed twice, and a changed pin is installed again.
RUN := $(VENV)/.installed-$(DEVICE)
DEV := $(VENV)/.installed-dev
REFERENCE := $(VENV)/.installed-reference

.PHONY: quick experiment smollm2 test lint clean
.DELETE_ON_ERROR:

quick: $(RUN)
	$(BIN)/python -m launch.experiment --config=configs/nano.py:quick --workdir=runs/nano_quick

experiment: $(RUN)
	$(BIN)/python -m launch.experiment --config=configs/nano.py --workdir=runs/nano

# A pretrained model: with it, its tests run, too.
smollm2: models/smollm2-135m-instruct/config.json

models/smollm2-135m-instruct/config.json: | $(RUN)
	$(BIN)/python -m launch.get_model --name=smollm2-135m-instruct --out=$(@D)

test: $(RUN) $(DEV) $(REFERENCE)
	$(BIN)/python -m pytest --numprocesses=logical --dist=loadfile --no-loadscope-reorder

lint: $(RUN) $(DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# pip comes last: what an interrupted venv left is completed.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 is needed; name it with PYTHON=<path>" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(RUN): $(REQUIREMENTS) requirements.txt | $(BIN)/pip
	$(PIP) --requirement $(REQUIREMENTS)
	@touch $@

$(DEV): requirements-dev.txt | $(RUN)
	$(PIP) --requirement requirements-dev.txt
	@touch $@

# torch by itself first: resolved together with peft, another build of it could be chosen.
$(REFERENCE): third_party/requirements.txt | $(RUN)
	$(PIP) "$$(grep -o '^torch==[^ ]*' $<)"
	$(PIP) --requirement $<
	@touch $@
