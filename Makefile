# saoma's commands. Each sets up what it needs; a second run does nothing twice.
PYTHON ?= python3
VENV := .venv
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
FUZZING := $(VENV)/.fuzzing
# How many files of tests run at a time.
WORKERS ?= 2

.PHONY: env run test torture soak order fuzz hostile bench lint lock format diagram picture

env: $(RUNTIME)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "saoma needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): $(VENV)/bin/python requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(DEVELOPMENT): $(RUNTIME) requirements-dev.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

$(FUZZING): $(DEVELOPMENT) tests/fuzz/requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/fuzz/requirements.txt
	@touch $@

run: env
	@$(VENV)/bin/python server.py demo $(if $(SETTINGS),--settings $(SETTINGS))

test: $(DEVELOPMENT)
	$(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# Logins in memory in every order that two things at once can have, and a million longer ones by chance.
order: $(DEVELOPMENT)
	SAOMA_ORDERS=all SAOMA_WALKS=$(or $(WALKS),1000000) $(VENV)/bin/python -m pytest -s tests/order/test_walks.py

# Looks for inputs that break a promise, each target for so many seconds, and keeps what goes further; then
# floods a running server with forgeries, and asks the REST part as its description allows and does not.
fuzz: $(FUZZING)
	$(VENV)/bin/python -m tests.fuzz $(or $(SECONDS),60) $(TARGETS)
	SAOMA_HTTP_CASES=$(or $(CASES),20000) $(VENV)/bin/python -m pytest -s tests/fuzz/test_over_http.py
	SAOMA_OPENAPI_EXAMPLES=$(or $(EXAMPLES),5) $(VENV)/bin/python -m pytest tests/handlers/test_openapi.py

# Others log in while somebody attacks: one attack after the other, each for 20 s, with the figures.
hostile: $(DEVELOPMENT)
	SAOMA_HOSTILE=1 $(VENV)/bin/python -m pytest -s tests/hostile $(ARGS)

# saoma beside bare Tornado; wants two cores for itself. BENCH=page,event: these alone. SHORT=1: judges nothing.
bench: $(DEVELOPMENT)
	@$(VENV)/bin/python -m benchmarks $(if $(SHORT),--short) $(if $(BENCH),--only $(BENCH))

# Kills the server again and again under load, and looks for what was acknowledged: KILLS (300) on SQLite,
# MONGODB_KILLS (100) on MongoDB, in about 20 minutes. SEED repeats a run's choices.
torture: $(DEVELOPMENT)
	nice $(VENV)/bin/python -m tests.torture

# A server under a steady load of all kinds for SECONDS (3600), RATE (12) visits a second; fails where memory or
# descriptors grow.
soak: $(DEVELOPMENT)
	@$(VENV)/bin/python -m tests.soak

lint: $(DEVELOPMENT)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .

format: $(DEVELOPMENT)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The ticket diagram in docs/architecture.md, drawn from the transition table.
diagram: env
	$(VENV)/bin/python -m tickets.diagram docs/architecture.md

# The README's picture and those of docs/pages.md, taken in Debian's Chromium.
picture: $(DEVELOPMENT)
	$(VENV)/bin/python docs/picture.py

# Pins the requirement files anew; needs uv (pip install uv), npm and Go.
lock:
	uv pip compile -q --upgrade --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -o requirements.txt requirements.in
	uv pip compile -q --upgrade --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -o requirements-dev.txt requirements-dev.in
	cd tests/fuzz && uv pip compile -q --upgrade --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -o requirements.txt requirements.in
	cd examples/node && npm update --package-lock-only
	cd tests/clients/node && npm update --package-lock-only
	cd tests/clients/go && go get -u . && go mod tidy
