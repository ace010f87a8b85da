# One command for a person, the same for the machine. Every target sets up what it needs; ARGS=... is passed on.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup proto proto-check format lint test test-slow test-gpu check demo serve bench-sampling bench-peers-setup bench-kinds bench-dgdmn audit clean

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The first Python on the path that is new enough and not too new; `make PYTHON=/path/to/python3.12 setup` overrules.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for name in python3.11 python3.12 python3 python; do \
	if "$$name" -c "$(SUPPORTED)" 2>/dev/null; then echo "$$name"; break; fi; done)
BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --quiet
STUBS := proto/memory_api/v1
PEERS := benchmarks/sampling/peers/requirements.txt
ARGS ?=

help: ## Show what make can do
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "make %-18s %s\n", $$1, $$2}'

setup: .venv/.installed ## Make .venv with the server, the client, the demo and the tools, at the pinned versions

proto: .venv-proto/.installed ## Generate the gRPC stubs beside memory.proto
	@$(call generate_stubs,proto)

format: .venv/.installed ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

lint: .venv/.installed ## Lint, formatting, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint proto-check ## Everything but the tests: lint, and whether the stubs are what memory.proto gives

proto-check: .venv-proto/.installed
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(call generate_stubs,"$$fresh"); \
	for stub in memory_pb2.py memory_pb2.pyi memory_pb2_grpc.py; do \
		cmp --silent "$$fresh/memory_api/v1/$$stub" "$(STUBS)/$$stub" \
			|| { echo "$(STUBS)/$$stub is not what memory.proto gives: run 'make proto' and commit it" >&2; exit 1; }; \
	done; echo "The stubs are up to date."

test: check ## What CI runs: check, then every test that takes seconds, two files at a time
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not gpu" $(ARGS)

test-slow: .venv/.installed ## The tests that take minutes
	@$(BIN)/pytest -m "slow and not gpu" $(ARGS)

test-gpu: .venv/.installed ## The tests that need a CUDA device; they are skipped where there is none
	@$(BIN)/pytest -m gpu $(ARGS)

demo: .venv/.installed ## Learn ten digits in five tasks from a process that keeps none of them, and show what is remembered
	@$(BIN)/memory-server demo $(ARGS)

serve: .venv/.installed ## Serve memories on this machine
	@$(BIN)/memory-server serve $(ARGS)

bench-sampling: .venv/.installed ## Measure sampling, each figure beside another one: a table, lines of JSON, a plot
	@PYTHONPATH=benchmarks $(BIN)/python -m sampling $(ARGS)

bench-kinds: .venv/.installed ## Teach every kind of memory ten classes of MNIST: one table of all, and how far each drifts
	@$(BIN)/python benchmarks/kinds.py $(ARGS)

bench-dgdmn: .venv/.installed ## Measure the experiments of the dual memory's paper: tables, lines of JSON, plots
	@PYTHONPATH=benchmarks $(BIN)/python -m dgdmn $(ARGS)

bench-peers-setup: .venv-peers/.installed ## Make .venv-peers with the servers that bench-sampling compares with

audit: .venv-audit/.installed ## Ask the public advisory database about every pinned version (needs a network)
	@.venv-audit/bin/pip-audit --strict --requirement constraints.txt --disable-pip --no-deps --progress-spinner off

clean: ## Delete caches and build products; environments and data stay
	@rm -rf build dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

# The project goes in without build isolation, so that its build tools are the pinned ones too.
.venv/.installed: pyproject.toml constraints.txt
	@$(call new_environment,.venv)
	@printf 'Installing the project into .venv (minutes, the first time) ... '
	@$(BIN)/python $(PIP_INSTALL) -c constraints.txt hatchling editables
	@$(BIN)/python $(PIP_INSTALL) -c constraints.txt --no-build-isolation -e '.[server,cli,plot,demo,trace,tensorboard,dev]'
	@echo 'done'
	@touch $@

.venv-proto/.installed: proto/requirements.txt
	@$(call new_environment,.venv-proto)
	@printf 'Installing the stub generator into .venv-proto ... '
	@.venv-proto/bin/python $(PIP_INSTALL) -r proto/requirements.txt
	@echo 'done'
	@touch $@

.venv-peers/.installed: $(PEERS) constraints.txt
	@$(call new_environment,.venv-peers)
	@printf 'Installing other servers into .venv-peers (minutes, the first time) ... '
	@.venv-peers/bin/python $(PIP_INSTALL) -c constraints.txt -r $(PEERS)
	@echo 'done'
	@touch $@

.venv-audit/.installed:
	@$(call new_environment,.venv-audit)
	@printf 'Installing the auditor into .venv-audit ... '
	@.venv-audit/bin/python $(PIP_INSTALL) 'pip-audit>=2.9,<3'
	@echo 'done'
	@touch $@

# $(1): the environment's folder.
define new_environment
if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or 3.12 is needed and none is on the path: install one, or name it with PYTHON=" >&2; exit 1; fi; \
[ -x $(1)/bin/python ] || "$(PYTHON)" -m venv $(1)
endef

# $(1): the folder that receives memory_api/v1/*_pb2*.
define generate_stubs
.venv-proto/bin/python -m grpc_tools.protoc -Iproto --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) $(STUBS)/memory.proto
endef
