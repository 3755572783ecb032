# The two commands for a fresh checkout. Both install what is missing first.
#   make demo    build the images, run the quickstart matrix, show the table
#   make test    check types, style and layers, then run the whole test suite (or ARGS="tests/x.py")
#   make bench   what the harness adds to QEMU's own time, as ratios; writes bench.json (root)
#   make which-policy   run the shipped matrices, and write docs/which-policy.md from their records

.PHONY: demo test check bench which-policy setup

demo: setup
	@.venv/bin/bootmatrix run matrices/quickstart.yaml

test: check
	@images/setup.sh --browser
	.venv/bin/pytest -n 2 $(ARGS)

which-policy: setup
	.venv/bin/bootmatrix run matrices/quickstart.yaml --run-dir build/quickstart
	.venv/bin/bootmatrix run matrices/library.yaml --run-dir build/library
	.venv/bin/bootmatrix report --which-policy build/quickstart/records.jsonl \
		build/library/records.jsonl >build/which-policy.md
	mv build/which-policy.md docs/which-policy.md

bench: setup
	.venv/bin/python -m benchmarks $(ARGS)

check: setup
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy --strict harness tests examples benchmarks
	.venv/bin/mypy --strict conftest.py
	.venv/bin/lint-imports --no-logo

setup:
	@images/setup.sh
