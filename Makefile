# The two commands for a fresh checkout. Both install what is missing first.
#   make demo    build the images, run the quickstart matrix, show the table
#   make test    check types, style and layers, then run the whole test suite (or ARGS="tests/x.py")

.PHONY: demo test check setup

demo: setup
	@.venv/bin/bootmatrix run matrices/quickstart.yaml

test: check
	.venv/bin/pytest -n 2 $(ARGS)

check: setup
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy --strict harness tests examples
	.venv/bin/mypy --strict conftest.py
	.venv/bin/lint-imports --no-logo

setup:
	@images/setup.sh
