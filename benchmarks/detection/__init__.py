"""How much is found: faults planted in real QEMU and SeaBIOS sources, run through a matrix.

    python -m benchmarks.detection --page docs/detection.md

Nothing of QEMU or SeaBIOS is here: their sources come from Debian's archive, and what is planted
in them are a few lines of our own each (faults.py), found by where they belong.
"""
