"""Benchmarks: what the harness adds to QEMU's own time. ``make bench`` runs them."""
