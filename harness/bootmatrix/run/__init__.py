"""Cells, run: one guest's life, and what cells share."""
