"""Run records: their model, their files, what came of a cell."""
