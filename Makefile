# make env | demo | test | check | bench | train APP=pathology PRESET=tiny
SHELL := /bin/bash
PYTHON := .venv/bin/python
APP ?= pathology
PRESET ?= tiny
export UV_LINK_MODE ?= copy
export OMP_NUM_THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n > 8 ? 8 : n)))

.PHONY: env demo test check lint bench train lock

env: .venv/.ready

# uv is taken from the path, or put into a folder of its own; then everything else comes from the lock, hashes checked.
.venv/.ready: requirements.lock
	@set -e; UV=$$(command -v uv || true); \
	if [ -z "$$UV" ] && [ -x .uv/bin/uv ]; then UV=.uv/bin/uv; fi; \
	if [ -z "$$UV" ]; then \
	  echo "getting uv"; \
	  if python3 -m venv .uv 2>/dev/null && .uv/bin/python -m pip install -q uv; then UV=.uv/bin/uv; \
	  elif python3 -m pip install -q --target .uv/site uv; then UV=.uv/site/bin/uv; \
	  else echo "error: uv is absent and pip could not get it; install uv by hand and run make again" >&2; exit 2; fi; fi; \
	[ -x $(PYTHON) ] || $$UV venv -q --python '>=3.11,<3.14' .venv; \
	echo "installing what requirements.lock names (several GB the first time)"; \
	$$UV pip sync -q --python $(PYTHON) --require-hashes requirements.lock; \
	touch $@

demo: env
	$(PYTHON) -m streamlit run streamlit_app.py

test: env
	$(PYTHON) -m pytest

check: lint test

lint: env
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

bench: env
	$(PYTHON) -m benchmarks

train: env
	$(PYTHON) -m apps.$(APP).train $(PRESET)

lock:
	uv pip compile -q --universal --generate-hashes --group dev --extra cluster --extra onnx --no-header pyproject.toml -o requirements.lock
