# make demo   sets everything up, trains a distilled adder network on embedded digits (minutes)
# make deploy-demo   exports a digits student and its teacher (trained first if there is none) to
#                    TFLite, measures the files, writes runs/deploy_demo/report.html
# make test   sets everything up, runs the fast tests (minutes); make test-slow, make test-long: those
#             that take seconds to minutes (the gate runs them too), and those of tools and packaging
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TWO := -n 2 --dist loadfile
NATIVE := custom_ops/tflite custom_ops/kernels/cpu
DELEGATE := custom_ops/tflite/libadder_delegate.so
INSTALLED := $(VENV)/.installed

.PHONY: demo deploy-demo test test-slow test-long lint format clean

demo: $(INSTALLED)
	$(RUN) -m experiments.digits

deploy-demo: $(INSTALLED) $(DELEGATE)
	$(RUN) -m export.demo --output=runs/deploy_demo

test: $(INSTALLED)
	$(RUN) -m pytest $(TWO)

test-slow: $(INSTALLED)
	$(RUN) -m pytest $(TWO) -m slow

test-long: $(INSTALLED)
	$(RUN) -m pytest -m long

lint: $(INSTALLED)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: $(INSTALLED)
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet 'setuptools>=68' wheel 'tensorflow>=2.21,<2.22'
	$(RUN) -m pip install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

$(DELEGATE): custom_ops/compiler.py custom_ops/build_delegate.py \
		$(wildcard $(addsuffix /*.cc,$(NATIVE)) $(addsuffix /*.h,$(NATIVE))) | $(INSTALLED)
	$(RUN) -m custom_ops.build_delegate --quiet

clean:
	rm -rf $(VENV) build dist *.egg-info
