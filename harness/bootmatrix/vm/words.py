"""A QEMU command line as people paste it, to words: from ps, libvirt's log, or a shell script.

It is hostile input: bounded, split by shlex, and nothing in it is run or opened.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence

from bootmatrix.arguments import LONGEST_WORD

LARGEST = 1 << 20
"""Bytes of a file that are read."""
MOST = 4096
"""Words of a command line that are read."""
LONGEST = 8 * LONGEST_WORD

_PROGRAM = re.compile(r"(?:\S*/)?(?:qemu-system-[a-z0-9_]+|qemu-kvm|kvm|qemu)(?:-[0-9.]+)?")
_ASSIGNED = re.compile(r"^\s*(?:export\s+|local\s+|readonly\s+)?([A-Za-z_]\w*)="
    r"(\"[^\"]*\"|'[^']*'|[^\s;&|()]*)"
    r"\s*(?:#.*)?$")
_ARRAY = re.compile(r"^\s*([A-Za-z_]\w*)\+?=\((.*?)\)\s*(?:#.*)?$", re.DOTALL | re.MULTILINE)
_USED = re.compile(r"\$\{([A-Za-z_]\w*)(?:\[@\])?\}|\$([A-Za-z_]\w*)")
# What ends a command in a shell.
_ENDS = frozenset(("&", "&&", "|", "||", ";", ">", ">>", "<", "2>&1", ">&2", "2>", "&>", ")", "}"))
_LIBVIRT = "starting up libvirt version"


class NoCommandLine(ValueError):
    """There is no QEMU's command line in a text; the message says what was looked for."""


def command_line(text: str) -> tuple[str, list[str]]:
    """QEMU's program and the words behind it: of several command lines in a text the last.

    Raises NoCommandLine.
    """
    if _LIBVIRT in text:  # a log has each start of the machine, and the last one is meant
        text = text[text.rindex(_LIBVIRT):]
    joined = re.sub(r"\\\r?\n\s*", " ", text)
    joined = _indented(joined)
    values = _assigned(joined)
    found = [line for line in joined.splitlines() if not line.lstrip().startswith("#")
             and any(_PROGRAM.fullmatch(word) for word in line.split())]
    if not found:
        raise NoCommandLine("no QEMU in it: a word that is qemu-system-ARCH, qemu-kvm or kvm")
    words = split(_filled(found[-1], values))
    at = next((n for n, word in enumerate(words) if _PROGRAM.fullmatch(word)), None)
    if at is None:
        raise NoCommandLine("QEMU's name is a part of another word in it")
    kept = []
    for word in words[at + 1:]:
        if word in _ENDS:
            break
        kept.append(word)
    return words[at], kept


def split(line: str) -> list[str]:
    """The words of a line as a shell splits it; JSON without quotes around it (ps) is a word."""
    stream = io.StringIO(line)
    lexer = shlex.shlex(stream, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    while len(words) <= MOST:
        at = stream.tell()
        rest = line[at:]
        blank = len(rest) - len(rest.lstrip())
        if rest[blank:blank + 1] == "{":
            try:
                _, end = json.JSONDecoder().raw_decode(rest, blank)
            except (ValueError, RecursionError):
                end = 0
            if end:
                words.append(rest[blank:end])
                stream.seek(at + end)
                continue
        try:
            word = lexer.get_token()
        except ValueError as error:
            raise NoCommandLine(f"its quotes do not end: {error}") from None
        if word is None:
            break
        words.append(word)
    if len(words) > MOST:
        raise NoCommandLine(f"more than {MOST} words")
    if any(len(word) > LONGEST for word in words):
        raise NoCommandLine(f"a word of more than {LONGEST} characters")
    return words


def _indented(text: str) -> str:
    """Lines that begin with an option go on with the line before: pasted without backslashes."""
    return re.sub(r"\r?\n[ \t]*(?=--?[A-Za-z])", " ", text)


def _assigned(text: str) -> Mapping[str, str]:
    """Variables of a shell script that are assigned a plain text, and arrays as their words."""
    values = dict(_ARRAY.findall(text))
    for line in text.splitlines():
        if found := _ASSIGNED.match(line):
            values[found[1]] = found[2].strip("\"'") if found[2][:1] in "\"'" else found[2]
    return values


def _filled(line: str, values: Mapping[str, str]) -> str:
    """The line with what is assigned in the text itself; other variables stay as they are."""
    for _ in range(4):  # a value can have another one's name in it
        new = re.sub(r"\"(\$\{[A-Za-z_]\w*\[@\]\})\"", r"\1", line)
        new = _USED.sub(lambda use: values.get(use[1] or use[2], use[0]), new)
        if new == line or len(new) > LARGEST:
            break
        line = new
    return line


def options(words: Sequence[str], no_value: frozenset[str]) -> list[tuple[str, str]]:
    """Options, each with its value ("" for one that has none); ("", WORD) for a stray word."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-") or word in ("-", "--"):
            found.append(("", word))
            continue
        name = word.lstrip("-")
        has_value = name not in no_value and at < len(words)
        found.append((name, words[at] if has_value else ""))
        at += has_value
    return found
