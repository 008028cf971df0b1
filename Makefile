# What the two commands of README.md need is installed below $(BUILD), once.
#   make demo [ONCE=1]   a notebook as a Spark application on a YARN of this machine
#   make test            everything that is checked: lint, types, docs, all tests
#   make bench           benchmarks/, writes benchmarks/results.json and growth.json, and the plots in docs/
#   make bench-peers     the same beside other servers, which it installs; writes benchmarks/peers.json
#   make lint docs       parts of make test
#   make clean           remove what make has installed and built

BUILD := $(abspath $(or $(ELYRA_BUILD_DIR),.build))
PYTHON ?= python3
BIN := $(BUILD)/venv/bin
VENV := $(BUILD)/venv.stamp
HADOOP := $(BUILD)/hadoop.stamp
KERBEROS := $(BUILD)/kerberos.stamp

export ELYRA_BUILD_DIR := $(BUILD)
export PATH := $(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=
# The Spark of the demonstration and the tests is pyspark in the virtual environment.
unexport SPARK_HOME SPARK_CONF_DIR SPARK_OPTS HADOOP_CONF_DIR YARN_CONF_DIR PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := demo
.PHONY: demo test bench bench-peers lint docs clean tools tools-of-tests venv hadoop kerberos install-venv install-hadoop install-kerberos

demo: $(VENV) $(HADOOP)
	@exec python -m demo $(if $(filter-out 0 no false,$(ONCE)),--once)

test: tools-of-tests lint docs $(HADOOP) $(KERBEROS)
	python tests/side_by_side.py $(PYTEST_OPTIONS)

bench: tools-of-tests $(VENV) $(HADOOP)
	python -m benchmarks
	python -m benchmarks.growth
	python -m benchmarks.plot

bench-peers: tools-of-tests $(VENV) $(HADOOP)
	python -m benchmarks.beside_peers
	python -m benchmarks.plot

lint: $(VENV)
	ruff check .
	ruff format --check .
	mypy
	mypy --explicit-package-bases --exclude through_gateway docs/examples
	@# Workers have Python 3.8: syntax and standard library; the excluded is used where it is found.
	vermin --quiet --no-tips --target=3.8- --exclude os.pidfd_open --violations elyra_launcher kernels
	@python -m demo.check_shell

docs: $(VENV)
	sphinx-build -q -W --keep-going -b html docs $(BUILD)/docs

venv: $(VENV)
hadoop: $(HADOOP)
kerberos: $(KERBEROS)

clean:
	rm -rf $(BUILD)/venv $(BUILD)/*-venv $(BUILD)/eg-sources $(BUILD)/venv-* $(BUILD)/hadoop $(BUILD)/kerberos $(BUILD)/docs $(BUILD)/*.stamp $(BUILD)/*.lock $(BUILD)/*.log
	rm -rf jupyter_elyra.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV): setup.py pyproject.toml | tools
	@sh demo/locked.sh $@ $(MAKE) --no-print-directory install-venv

$(HADOOP): demo/hadoop/pom.xml | tools
	@sh demo/locked.sh $@ $(MAKE) --no-print-directory install-hadoop

# Apart, because it is compiled: only the tests of Kerberos need it.
$(KERBEROS): setup.py | $(VENV) tools-of-tests
	@sh demo/locked.sh $@ $(MAKE) --no-print-directory install-kerberos

install-venv:
	@echo "Installing the virtual environment in $(BUILD)/venv (minutes, the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(BUILD)/venv
	@{ $(BIN)/python -m pip install --quiet --upgrade pip && \
	$(BIN)/python -m pip install --config-settings editable_mode=compat --editable '.[test,docs]'; } \
		>$(BUILD)/pip.log 2>&1 || \
	{ tail -n 20 $(BUILD)/pip.log; echo "pip could not install the project: see $(BUILD)/pip.log" >&2; exit 1; }

install-hadoop:
	@echo "Fetching the jars of Hadoop into $(BUILD)/hadoop/lib (100 MB, the first time) ..."
	@mvn --batch-mode --file demo/hadoop/pom.xml dependency:copy-dependencies \
		-DoutputDirectory=$(BUILD)/hadoop/lib >$(BUILD)/maven.log 2>&1 || \
	{ grep -F '[ERROR]' $(BUILD)/maven.log | head -n 5; echo "Maven could not fetch Hadoop: see $(BUILD)/maven.log" >&2; exit 1; }

install-kerberos:
	@echo "Compiling gssapi and krb5 into $(BUILD)/kerberos (minutes, the first time) ..."
	@$(BIN)/python -m pip install --quiet --upgrade --target $(BUILD)/kerberos 'gssapi>=1.8' 'requests_kerberos>=0.14' \
		>$(BUILD)/kerberos.log 2>&1 || \
	{ tail -n 20 $(BUILD)/kerberos.log; echo "pip could not install gssapi: see $(BUILD)/kerberos.log" >&2; exit 1; }

tools:
	@mkdir -p $(BUILD)
	@PYTHON=$(PYTHON) sh demo/tools.sh

tools-of-tests:
	@mkdir -p $(BUILD)
	@PYTHON=$(PYTHON) sh demo/tools.sh r
