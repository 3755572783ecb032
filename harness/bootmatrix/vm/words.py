"""A QEMU command line as people paste it, to words: from ps, libvirt's log, or a shell script.

It is hostile input: bounded, split as a shell splits it, and nothing in it is run or opened.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from bootmatrix.arguments import LONGEST_WORD

LARGEST = 1 << 20
"""Bytes of a file that are read."""
MOST = 4096
"""Words of a command line that are read."""
LONGEST = 8 * LONGEST_WORD
COMMENT = "#"
"""The name under which ``options`` gives what a shell does not read."""

_PROGRAM = re.compile(r"(?:\S*/)?(?:qemu-system-[a-z0-9_]+|qemu-kvm|kvm|qemu)(?:-[0-9.]+)?")
# One that looks for a QEMU is none: `ps | grep qemu` has its own line.
_SEARCH = re.compile(r"(?:\S*/)?(?:[ef]?grep|pgrep|pkill|killall|rg|ag|ack|which|whereis|type)")
# What a comment becomes until the words are split: it takes part in nothing that a shell reads.
_MARK = "\x01"
_MARKED = re.compile(_MARK + r"([0-9]+)" + _MARK)
# A part of a word: quoted, escaped, a command's output, a variable, all else.
_PART = re.compile(r"""'([^']*)'|"((?:[^"\\]++|\\.)*+)"|\\(.)"""
                   r"""|(`[^`]*`|\$\([^()]*\)|\$\{[^{}]*\}|[^\s'"\\`$]+|[`$])""", re.DOTALL)
_BLANK = re.compile(r"\s*")
_ASSIGNED = re.compile(r"^\s*(?:export\s+|local\s+|readonly\s+)?([A-Za-z_]\w*)="
    r"(\"[^\"]*\"|'[^']*'|[^\s;&|()]*)"
    rf"\s*(?:{_MARK}.*)?$")
_ARRAY = re.compile(rf"[ \t]*([A-Za-z_]\w*)=\(([^()]*)\)[ \t]*(?:{_MARK}[^\n]*)?$", re.MULTILINE)
_QUOTED = re.compile(r"""'[^'\n]*'|"(?:[^"\\\n]++|\\.)*+"?""")
# Simple commands of a script, each with what is before it.
_COMMAND = re.compile(r"((?:[;&|(){}`\n\s]|\b(?:then|else|do|elif)\b)*)([^;&|(){}`\n]*)")
_JOINTS = re.compile(r"&&|\|\||[{}]")
_VARIABLE = re.compile(r"\$\{[^{}]*\}")
_SETS = re.compile(r"(?:^|\s)([A-Za-z_]\w*)\s*(?:[-+*/%&|^]?=(?!=)|\+\+|--)")
_DEFAULTED = re.compile(r"\$\{([A-Za-z_]\w*):?=")
_OPENS = frozenset(("if", "case", "for", "while", "until", "select"))
_CLOSES = frozenset(("fi", "esac", "done"))
_BEFORE_SETTING = frozenset(("export", "local", "readonly", "declare", "typeset", "!", "time",
                             "if", "while", "until"))
# These set variables that they name without a sign of equality.
_SETTERS = frozenset(("read", "unset", "let", "for", "select", "getopts", "mapfile", "readarray",
                      "printf"))
_USED = re.compile(r"\$\{([A-Za-z_]\w*)(?:\[@\])?\}|\$([A-Za-z_]\w*)")
# What ends a command in a shell.
_ENDS = frozenset(("&", "&&", "|", "||", ";", ">", ">>", "<", "2>&1", ">&2", "2>", "&>", ")", "}"))
_LIBVIRT = "starting up libvirt version"


class NoCommandLine(ValueError):
    """There is no QEMU's command line in a text; the message says what was looked for."""


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 as PowerShell's ``>`` writes it, by its mark."""
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if utf_16 else "utf-8-sig", "replace")


def command_line(text: str) -> tuple[str, list[str]]:
    """QEMU's program and the words behind it: of several command lines in a text the last.

    A comment is a word that begins with ``_MARK``, as ``options`` knows it, and so is each of the
    other command lines. Raises NoCommandLine.
    """
    text = text.replace(_MARK, " ")
    comments: list[str] = []
    by_libvirt = _LIBVIRT in text
    if by_libvirt:  # a log has each start of the machine, and the last one is meant
        text = text[text.rindex(_LIBVIRT):]
    else:
        text = "\n".join(_without_comment(line, comments) for line in text.split("\n"))
    joined = re.sub(r"\\\r?\n\s*", " ", text)
    joined = _indented(joined, comments)
    values = _assigned(joined)
    found = [(line, sure) for line in joined.splitlines() if (sure := _how_sure(line))]
    if not found:
        raise NoCommandLine("no QEMU in it: a word that is qemu-system-ARCH, qemu-kvm or kvm")
    surest = max(sure for _, sure in found)
    last = max(n for n, (_, sure) in enumerate(found) if sure == surest)
    words = split(_filled(found[last][0], values))
    at = _program_at(words)
    if at is None:
        raise NoCommandLine("QEMU's name is a part of another word in it")
    arguments = []
    for place, word in enumerate(words[at + 1:], at + 1):
        if marked := _MARKED.fullmatch(word):
            arguments.append(_MARK + comments[int(marked[1])])
        elif word in _ENDS:
            rest = " ".join(words[place:])
            if " -" in rest:  # or it was ps' line, where it was a part of a word
                arguments.append(_MARK + _MARKED.sub("#", rest))
            break
        else:
            arguments.append(word)
    if not by_libvirt:  # whose log has QEMU's version in a line of its own
        arguments += [_MARK + _MARKED.sub("#", line.strip())
                      for n, (line, _) in enumerate(found) if n != last]
    return words[at], arguments


def split(line: str) -> list[str]:
    """The words of a line as a shell splits it; JSON without quotes around it (ps) is a word.

    What a command would say (``$(nproc)``) stays in its word, unread.
    """
    words: list[str] = []
    patience = LARGEST  # characters of what begins like JSON and is none
    at = after_blank(line, 0)
    while at < len(line):
        if len(words) == MOST:
            raise NoCommandLine(f"more than {MOST} words")
        word = ""
        if line[at] == "{" and patience > 0:
            word, looked = _json(line[at:at + LONGEST + 1])
            patience -= looked
            at += len(word)
        if not word:
            at, word = _word(line, at)
        if len(word) > LONGEST:
            raise NoCommandLine(f"a word of more than {LONGEST} characters")
        if word[-1:] == ";" != word and line[at - 1] == ";":
            words.append(word[:-1])
            word = ";"
        words.append(word)
        at = after_blank(line, at)
    return words


def after_blank(line: str, at: int) -> int:
    """Where the next thing is that is no blank."""
    found = _BLANK.match(line, at)
    return found.end() if found else at


def _json(text: str) -> tuple[str, int]:
    """The JSON that a text begins with, "" for none; then how far that was looked for."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except RecursionError:
        return "", len(text)
    except json.JSONDecodeError as error:
        return "", error.pos
    return (text[:end], 0) if not text[end:end + 1].strip() else ("", end)


def _word(line: str, at: int) -> tuple[int, str]:
    parts: list[str] = []
    while at < len(line) and not line[at].isspace():
        found = _PART.match(line, at)
        if found is None:
            if line[at] == "\\":  # the last character
                return len(line), "".join(parts)
            raise NoCommandLine("its quotes do not end")
        single, double, escaped, plain = found.groups()
        parts.append(single or escaped or plain or (
            re.sub(r'\\(["\\$`])', r"\1", double) if double else ""))
        at = found.end()
    return at, "".join(parts)


def _how_sure(line: str) -> int:
    """Whether a line is a QEMU's command line: 0 no; 1 it may be; 2 options are behind its name.

    A report's prose names QEMU, too ("with the old qemu it works"), above and below the command.
    """
    words = line.split()
    for at, word in enumerate(words):
        if _SEARCH.fullmatch(word):
            words = words[:at]
            break
    named = _program_at(words)
    if named is None:
        return 0
    if _begins_options(words, named):
        return 2
    return int(len(words) > named + 1 or words[named] not in ("qemu", "kvm"))


def _program_at(words: Sequence[str]) -> int | None:
    """Which word is QEMU's name: the first with an option behind it, as ps names a user before."""
    named = [at for at, word in enumerate(words) if _PROGRAM.fullmatch(word)]
    return next((at for at in named if _begins_options(words, at)), next(iter(named), None))


def _begins_options(words: Sequence[str], at: int) -> bool:
    return (words[at + 1:at + 2] != [] and words[at + 1].startswith(("-", "$", '"', "'", _MARK))
            and words[at - 1:at] not in (["-accel"], ["--accel"]))


def _without_comment(line: str, comments: list[str]) -> str:
    """The line with its comment put aside, and a mark in its place."""
    at = 0
    while (at := line.find("#", at)) >= 0 and at and not line[at - 1].isspace():
        at += 1
    if at < 0:
        return line
    at = 0
    while at < len(line):
        if line[at] == "#" and (not at or line[at - 1].isspace()):
            comments.append(line[at:].rstrip("\r"))
            return f"{line[:at]}{_MARK}{len(comments) - 1}{_MARK}"
        found = _BLANK.match(line, at)
        if found is None or found.end() == at:
            found = _PART.match(line, at)
        if found is None:  # a quote that ends on another line
            break
        at = found.end()
    return line


def _indented(text: str, comments: list[str]) -> str:
    """Lines that begin with an option go on with the line before: pasted without backslashes.

    Not behind a comment that has one: there the shell's command has come to its end.
    """
    def joined(found: re.Match[str]) -> str:
        if found[1] and comments[int(found[1])].endswith("\\"):
            comments[int(found[1])] += " (and the lines below it: the command ends there)"
            return found[0]
        return f"{found[0].rstrip()} "

    return re.sub(rf"(?:{_MARK}([0-9]+){_MARK}[ \t]*)?\r?\n[ \t]*(?=--?[A-Za-z])", joined, text)


def _assigned(text: str) -> Mapping[str, str]:
    """Variables of a shell script that are assigned a plain text, and arrays as their words."""
    values = {}
    at = 0
    for line in text.splitlines(keepends=True):
        if "=(" in line and (found := _ARRAY.match(text, at)):
            values[found[1]] = found[2]
        elif found := _ASSIGNED.match(line):
            values[found[1]] = found[2].strip("\"'") if found[2][:1] in "\"'" else found[2]
        at += len(line)
    often = _how_often_set(text) if values else Counter()
    return {name: value for name, value in values.items() if often[name] <= 1}


def _how_often_set(text: str) -> Counter[str]:
    """How many commands set each variable; one that may run or not counts twice.

    Which value counts where is not followed: one that is set once, whatever happens, is known.
    """
    often: Counter[str] = Counter(name for name in _DEFAULTED.findall(text) for _ in range(2))
    quoted = _QUOTED.sub(lambda one: "Q" if one[0][1:2] and one[0][-1] in "\"'" else one[0], text)
    plain = _VARIABLE.sub("V", quoted)
    depth = 0
    groups: list[bool] = []  # of each { whether it runs for a condition alone
    for between, command in _COMMAND.findall(plain):
        perhaps = False
        for sign in _JOINTS.findall(between):
            if sign == "{":
                groups.append(perhaps or groups[-1:] == [True])
            elif sign == "}":
                del groups[-1:]
            else:
                perhaps = True
        words = command.split()
        if not words:
            continue
        depth += (words[0] in _OPENS) - (words[0] in _CLOSES and depth > 0)
        begins = next((n for n, word in enumerate(words)
                       if word not in _BEFORE_SETTING and not word.startswith("-")), len(words))
        words = words[begins:]
        perhaps = perhaps or depth > 0 or groups[-1:] == [True]
        if words and words[0] in _SETTERS:
            often.update(2 * re.findall(r"[A-Za-z_]\w*", " ".join(words[1:])))
        elif words and _SETS.match(" ".join(words)):
            often.update((1 + perhaps) * _SETS.findall(" ".join(words)))
    return often


def _filled(line: str, values: Mapping[str, str]) -> str:
    """The line with what is assigned in the text itself; other variables stay as they are."""
    for _ in range(4):  # a value can have another one's name in it
        new = re.sub(r"\"(\$\{[A-Za-z_]\w*\[@\]\})\"", r"\1", line)
        uses = [values.get(use[1] or use[2], use[0]) for use in _USED.finditer(new)]
        if len(new) + sum(map(len, uses)) > 2 * LARGEST:
            raise NoCommandLine("its variables make too long a line of it")
        new = _USED.sub(lambda use: values.get(use[1] or use[2], use[0]), new)
        if new == line:
            break
        line = new
    return line


def options(words: Sequence[str], no_value: frozenset[str]) -> list[tuple[str, str]]:
    """Options, each with its value ("" for one that has none); ("", WORD) for a stray word.

    (COMMENT, TEXT) for a comment.
    """
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word.startswith(_MARK):
            found.append((COMMENT, word[1:]))
            continue
        if not word.startswith("-") or word in ("-", "--"):
            found.append(("", word))
            continue
        name = word.lstrip("-")
        has_value = name not in no_value and at < len(words) and words[at][:1] != _MARK
        found.append((name, words[at] if has_value else ""))
        at += has_value
    return found
