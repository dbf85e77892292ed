# Each target is what a person could type; `nextmove --help` lists the rest.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: install clients quickstart test check lock clean

install: .venv/.installed  ## The environment, exactly as locked.

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

clients: .venv/clients/.installed  ## The clients of others that tests run, in an environment of their own.

.venv/clients/.installed: tests/clients/requirements.lock | install
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/clients
	$(BIN)/uv pip sync --quiet --require-hashes --python .venv/clients/bin/python tests/clients/requirements.lock
	@touch $@

quickstart: install  ## Data, features, model, service on 127.0.0.1:3000.
	$(BIN)/nextmove quickstart $(ARGS)

test: export OMP_NUM_THREADS = 1
test: export OPENBLAS_NUM_THREADS = 1
test: install clients  ## Every test; each worker has one core, on which more threads wait for each other.
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

check:  ## What continuous integration runs.
	bash .ci/run

lock:  ## requirements.lock (all), serving.lock (what goes into the Bento), and what clients need.
	$(BIN)/uv pip compile pyproject.toml --group dev --extra training --universal --generate-hashes --quiet --custom-compile-command "make lock" --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --quiet --custom-compile-command "make lock" --output-file serving.lock
	$(BIN)/uv pip compile tests/clients/requirements.in --universal --generate-hashes --quiet --custom-compile-command "make lock" --output-file tests/clients/requirements.lock

clean:  ## The environment only; `.nextmove` holds the ledger and stays.
	rm -rf .venv
