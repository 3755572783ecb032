"""Machines that a guest runs on."""
