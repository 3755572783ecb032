"""Run records told to people: pure functions from records to text, with no I/O of their own."""
