"""What belongs to a board on a bench, whatever reaches it: its seat here, its chip, its line."""
