"""bootmatrix: which firmware runs after a QEMU guest was migrated and reset?

The command line imports this package before pytest starts: PYTEST_DONT_REWRITE keeps pytest
from warning that it can no longer rewrite asserts here.
"""

__version__ = "0.1.0"
