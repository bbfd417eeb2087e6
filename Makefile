# make demo    install, then a real tuning job on the embedded data set and its ranked report
# make test    install with the test extras, then the tests
# make check   what every commit passes: ruff, mypy, pytest
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check install install-test lint bench soak test-cluster clean

demo: install
	$(BIN)/quarterturn run --trainable digits-mlp --space sgd --name demo --trials 20 --epochs 15

install: .venv/installed
install-test: .venv/installed-test

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else "Python 3.11 or 3.12 is needed, got %d.%d; use: make PYTHON=python3.12" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]' -c constraints.txt
	touch $@

test: install-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

bench: install
	$(BIN)/python benchmarks/overhead.py --json
	$(BIN)/python benchmarks/decide.py --json
	$(BIN)/python benchmarks/layca_step.py --json
	$(BIN)/python benchmarks/train_step.py --json
	$(BIN)/python benchmarks/forecast.py --json benchmarks/curves/*.parquet

# Kills a running job many times over and checks that nothing is lost.
soak: install-test
	$(BIN)/python -m pytest -m soak --timeout 3000

# Real clusters of several nodes, of which some are lost. Those of tests/cluster_hosts are the
# committed cluster.yaml on hosts made out of namespaces, and need root.
test-cluster: install-test
	@if [ "$$(id -u)" = 0 ] && ! { command -v ip && command -v rsync && command -v ssh && \
	  PATH="$$PATH:/usr/sbin" && command -v sshd && command -v nginx; } >/dev/null; then \
	  apt-get update -qq && \
	  apt-get install -y -qq iproute2 openssh-server openssh-client rsync curl procps \
	    openssl nginx-light; fi
	$(BIN)/python -m pytest -m cluster

clean:
	rm -rf .venv studies
