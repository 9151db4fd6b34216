# make demo   sets everything up, trains a distilled adder network on embedded digits (minutes)
# make test   sets everything up, runs the fast tests (minutes); make test-slow: the slow ones
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint format clean

demo: $(INSTALLED)
	$(RUN) -m experiments.digits

test: $(INSTALLED)
	$(RUN) -m pytest -n 2 --dist loadfile

test-slow: $(INSTALLED)
	$(RUN) -m pytest -m slow

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

clean:
	rm -rf $(VENV) build dist *.egg-info
