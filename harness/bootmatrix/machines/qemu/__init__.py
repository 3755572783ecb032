"""QEMU as a machine: its process, command line, files and connections."""
