# Needs Python 3.11 or later and make, nothing else.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: help demo test lint docs unit soak clean

help:
	@echo "make demo   run the whole method on the built-in phantom (runs/demo)"
	@echo "make test   lint, type check and run all tests"
	@echo "make unit   run the fast tests only"
	@echo "make soak   kill, fill, cut off, damage and mutate for an hour (PIECES=kills for some of it)"
	@echo "make docs   build the documents as a site (site/); warnings are errors"

.venv/installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/paramreuse demo --out runs/demo

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed
	$(BIN)/mkdocs build --strict --site-dir site

test: lint docs
	$(BIN)/pytest

unit: .venv/installed
	$(BIN)/pytest -m "not slow"

soak: .venv/installed
	$(BIN)/python benchmarks/soak.py $(PIECES)

clean:
	rm -rf .venv runs site build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
