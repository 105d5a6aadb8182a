# The two commands that matter: `make demo` and `make test`. Each does all of its own set-up, once; the second time is quick.
# Use an interpreter of your choice with `make PYTHON=/path/to/python3 demo`.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STAIRS := textbook compiled locked-sharded lockfree pinned

.PHONY: help demo test docs bench check install clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Compare every technique with the textbook on this machine; minutes, ends with a report
	@$(BIN)/exchange demo

test: $(INSTALLED) ## Run the tests (with recorded market data as well if EXCHANGE_DATA names its folder)
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=2 --dist=worksteal

docs: $(INSTALLED) ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open $(CURDIR)/site/index.html"

bench: $(INSTALLED) ## Measure the stairs thoroughly, then the queues by themselves; many minutes
	@$(BIN)/exchange bench $(STAIRS)
	@$(BIN)/exchange bench queue

check: $(INSTALLED) ## Lint, formatting, types, and whether dependencies have known vulnerabilities (if there is a network)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy exchange
	@$(BIN)/python tests/dependency_audit.py

install: $(INSTALLED) ## Only make .venv and install into it
	@echo "ready: source $(BIN)/activate"

clean: ## Remove what these commands made (reports and the cache of compiled code stay)
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,docs,dev]'
	@touch $@

# Suitable is: 3.12 or newer, able to make a virtual environment, and not the free-threaded build (no wheels of some
# dependencies).
SUITABLE := import sys, sysconfig, venv, ensurepip; \
	sys.exit(sys.version_info < (3, 12) or bool(sysconfig.get_config_var("Py_GIL_DISABLED")))

$(BIN)/python:
	@for python in $(PYTHON) python3.14 python3.13 python3.12 python3 \
		$$(ls -d "$$HOME"/.pyenv/versions/*/bin/python3 2>/dev/null | sort --version-sort --reverse); do \
		if "$$python" -c '$(SUITABLE)' >/dev/null 2>&1; then \
			echo "making $(VENV) with $$("$$python" --version) ($$("$$python" -c 'import sys; print(sys.executable)'))"; \
			exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "No Python 3.12 or newer (with venv) was found. Install one and run make again:" >&2; \
	echo "  Debian 13, Ubuntu 24.04 and newer:  sudo apt install python3 python3-venv" >&2; \
	echo "  Fedora:                             sudo dnf install python3" >&2; \
	echo "  anything else:                      https://github.com/pyenv/pyenv, then: pyenv install 3.13" >&2; \
	echo "or name one: make PYTHON=/path/to/python3 demo" >&2; \
	exit 1
