"""bootmatrix: which firmware runs after a QEMU guest was migrated and reset?"""

__version__ = "0.1.0"
