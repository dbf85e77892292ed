# Each target is what a person could type; `nextmove --help` lists the rest.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: install quickstart test check lock clean

install: .venv/.installed  ## The environment, exactly as locked.

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

quickstart: install  ## Data, features, model, service on 127.0.0.1:3000.
	$(BIN)/nextmove quickstart $(ARGS)

test: install  ## Every test.
	$(BIN)/python -m pytest $(ARGS)

check:  ## What continuous integration runs.
	bash .ci/run

lock:  ## requirements.lock (all) and serving.lock (what goes into the Bento).
	$(BIN)/uv pip compile pyproject.toml --group dev --extra training --universal --generate-hashes --quiet --custom-compile-command "make lock" --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --quiet --custom-compile-command "make lock" --output-file serving.lock

clean:  ## The environment only; `.nextmove` holds the ledger and stays.
	rm -rf .venv
