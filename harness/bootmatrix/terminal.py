"""Text on its way to a terminal: what would steer the terminal is shown instead of obeyed.

So is what a CI runner that reads along would take for a command. QEMU's stderr, firmware's
banners, records and matrix files can hold anything: titles, clipboard writes, a cleared screen,
text that runs the other way. Files on disk keep it as it is.
"""

from __future__ import annotations

import re
from typing import Any, TextIO

# All of C0 but tab and line feed, DEL, C1; line and paragraph separators; what turns the direction
# of text, or is not seen at all (Unicode's Cf); tags; halves of surrogate pairs.
_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
# GitHub's runner takes a line that begins with the one, and one that has the other in it; so do
# others: ##vso[ (Azure Pipelines), ##teamcity[.
_COMMANDS = re.compile(r"^([^\S\n]*):(?=:)|#(?=#\w*\[)", re.MULTILINE)


def visible(text: str) -> str:
    """The text with each such character as its escape, such as ``\\x1b`` or ``\\u202e``."""
    shown = _STEERS.sub(lambda found: _escape(found.group()), text)
    return _COMMANDS.sub(
        lambda found: "\\u0023" if found[1] is None else f"{found[1]}\\u003a", shown)


def one_line(text: str) -> str:
    """The same without tabs and line feeds, for where only one line may stand."""
    return visible(text).replace("\t", " ").replace("\n", "\\n")


def echo(*parts: Any, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """``print`` for all that is said to people."""
    print(visible(" ".join(map(str, parts))), file=file, end=end, flush=flush)


def _escape(char: str) -> str:
    code = ord(char)
    if code == 0x7F:  # the one that JSON leaves as it is, and this way is JSON, too
        return "\\u007f"
    return f"\\x{code:02x}" if code < 0x100 else (
        f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
