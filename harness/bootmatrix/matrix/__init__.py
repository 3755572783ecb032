"""From a matrix file to its cells."""

SUFFIXES = (".yaml", ".yml", ".json")
"""What the name of a matrix file ends in, in any case; JSON is YAML, too."""
