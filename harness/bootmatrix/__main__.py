"""The command: ``bootmatrix``, or ``python -m bootmatrix``.

It can be asked to end from the first moment on, so the rest is imported after that.
"""

import gc
import sys

from bootmatrix.ending import end_tidily, ended


def main() -> int:
    """Run a command; its exit status."""
    end_tidily()
    gc.set_threshold(20_000)  # what is imported is no garbage: to look for it there takes a tenth
    try:
        from bootmatrix.cli.main import main as command

        status = command()
    except KeyboardInterrupt:  # before there was a command
        from bootmatrix.errors import Status

        sys.stderr.write("bootmatrix: interrupted\n")
        status = Status.INTERRUPTED
    ended()
    return status


if __name__ == "__main__":
    sys.exit(main())
