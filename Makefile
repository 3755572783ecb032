# The two commands for a fresh checkout. Both install what is missing first.
#   make demo    build the images, run the quickstart matrix (or ARGS='-k "..."'), show the table
#   make demo-bench   the same for boards: two virtual ones beside two QEMUs, on a bench of labgrid's
#   make test    check types, style and layers, then run the test suite (or ARGS="tests/policies")
#   make test-all   the same, and what is marked `thorough` or `slow`: half an hour and more
#   make bench   what the harness adds to QEMU's own time, as ratios; writes bench.json (root)
#   make check-docs   run every command of README and docs/, from an empty cache (an hour)
#   make detection   plant faults in QEMU and SeaBIOS, and write docs/detection.md (hours)
#   make which-policy   run the shipped matrices, and write docs/which-policy.md from their records

# A shell that forbids bytecode makes each of the suite's thousand Pythons compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

# Some tests wait, and each worker collects all of them for itself: two a processor.
WORKERS = $(shell expr 2 '*' $$(nproc))

.PHONY: demo demo-bench test test-all check check-docs bench detection which-policy setup

demo: setup
	@.venv/bin/bootmatrix run matrices/quickstart.yaml $(ARGS)

demo-bench:
	@images/setup.sh --bench
	@PATH="$$PATH:/usr/sbin" .venv/bin/python examples/bench/with_boards.py \
		.venv/bin/bootmatrix run matrices/bench.yaml

# CI has the thorough ones, too.
MARKED ?= not slow and not thorough
SUITE = .venv/bin/pytest -n $(WORKERS) --dist worksteal

test: check
	@images/setup.sh --browser --bench
	$(SUITE) -m "$(MARKED)" $(ARGS)

test-all: check
	@images/setup.sh --browser --bench --slow
	$(SUITE) $(ARGS)

which-policy: setup
	rm -rf build/quickstart build/library build/modes build/tpm build/entries
	.venv/bin/bootmatrix run matrices/quickstart.yaml --run-dir build/quickstart
	.venv/bin/bootmatrix run matrices/library.yaml --run-dir build/library
	.venv/bin/bootmatrix run matrices/modes.yaml --run-dir build/modes
	.venv/bin/bootmatrix run matrices/tpm.yaml --run-dir build/tpm
	.venv/bin/bootmatrix run matrices/uefi.yaml -k "boot-entry or boot-next" --run-dir build/entries
	.venv/bin/bootmatrix report --which-policy build/quickstart/records.jsonl \
		build/library/records.jsonl build/modes/records.jsonl \
		build/tpm/records.jsonl build/entries/records.jsonl >build/which-policy.md
	mv build/which-policy.md docs/which-policy.md

bench: setup
	@images/setup.sh --browser
	.venv/bin/python -m benchmarks $(ARGS)

detection: setup
	.venv/bin/python -m benchmarks.detection --page docs/detection.md $(ARGS)

check: setup
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy --strict harness/bootmatrix tests examples benchmarks
	.venv/bin/mypy --strict conftest.py
	.venv/bin/lint-imports --no-logo

check-docs: setup
	.venv/bin/python tests/helpers/docs_commands.py $(ARGS)

setup:
	@images/setup.sh
