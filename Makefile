# `make demo` and `make test` need nothing done before: Python 3.11 or newer, make, and the package registry.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install install-dev demo test check soak bench clean

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "cannot set up: no Python 3.11 or newer found; install one, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@# Debian leaves out of `python3` what makes virtual environments; root may fetch it, others are told.
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv $(VENV); \
		else $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
			echo "cannot set up: this Python cannot make virtual environments; install its venv package" >&2; exit 1; }; fi; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[http,wsgi]"
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[http,otel,postgres,wsgi,zodb]" --group test --group check
	@touch $@ $(VENV)/installed

demo: install
	@exec $(BIN)/coserver -c examples/librarian/coserver.toml up

# Most tests wait for processes, so two at a time take little more than half as long, also on two cores.
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: install-dev
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/ruff check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: install-dev
	$(BIN)/python -m pytest -m soak

bench: install-dev
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .bench
