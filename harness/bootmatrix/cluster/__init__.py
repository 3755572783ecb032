"""Cells on more machines than one, by dask.distributed, which is imported in this package alone."""
