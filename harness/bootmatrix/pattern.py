"""Regular expressions of the user's, looked for in what a console says: in bounded time.

One that tries too much, ``(a|a)*b``, would not end before the guest's time does, nor for a
deadline. So it is matched by the package ``regex``, which can give up.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from bootmatrix.errors import HarnessError

if TYPE_CHECKING:
    import regex

# Of this process' own time. What a console has at once is 8 KiB at most.
_SECONDS = 5.0
_EACH_BYTE = bytes(range(256)) + b"\r\n login: "
# So often a part may be repeated; it is written out when it is compiled.
_MOST_TIMES = 1000
_TIMES = re.compile(r"(?<=[{,])[0-9]{1,18}(?=[,}])")


class Pattern:
    """One of the user's, in UTF-8; ``.`` is any byte. ValueError for what is none."""

    def __init__(self, text: str) -> None:
        import regex  # where somebody has written one

        self.text = text
        if any(int(number) > _MOST_TIMES for number in _TIMES.findall(text)):
            raise ValueError(f"it repeats something more than {_MOST_TIMES} times")
        try:
            self._compiled: regex.Pattern[bytes] = regex.compile(text.encode(), regex.DOTALL)
        except regex.error as error:
            raise ValueError(str(error)) from None
        except (RecursionError, MemoryError):
            raise ValueError("it is nested too deeply, or too long") from None

    @property
    def is_empty(self) -> bool:
        """Whether it is found where nothing of it was said: ``x*``, ``(?=[A-Z])``."""
        try:
            return any(found.start() == found.end() for found in chain(
                self._compiled.finditer(b"", timeout=_SECONDS),
                self._compiled.finditer(_EACH_BYTE, timeout=_SECONDS)))
        except (TimeoutError, MemoryError):
            return False  # told of once a guest says something

    def search(self, said: bytes, start: int = 0) -> regex.Match[bytes] | None:
        """As of Python's own patterns. HarnessError where it takes too long."""
        try:
            return self._compiled.search(said, start, timeout=_SECONDS)
        except (TimeoutError, MemoryError) as error:
            what = ("takes more memory than there is" if isinstance(error, MemoryError) else
                    f"was looked for in {len(said)} bytes of the console for {_SECONDS:.0f} s")
            raise HarnessError(
                f"the pattern {self.text!r} {what}: it tries too many ways to match, as (a|a)*b "
                "does") from None
