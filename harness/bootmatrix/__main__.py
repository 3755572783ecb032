"""``python -m bootmatrix``: the command line."""

import sys

from bootmatrix.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
