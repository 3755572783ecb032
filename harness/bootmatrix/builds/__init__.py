"""QEMUs and firmware that can be run: the catalogue, the store of its images, a user's own."""
