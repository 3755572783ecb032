"""A recorded offer, as a file that is kept with a release and checked against later QEMUs.

JSON with one item a line, so that two baselines can be compared by eye and by git. The format
is in docs/fw_cfg.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bootmatrix.arguments import complaint
from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.fw_cfg.contract import Item, Offer, Setup
from bootmatrix.fw_cfg.format.directory import MAX_FILE_BYTES

FORMAT = "bootmatrix fw_cfg baseline"
SCHEMA, SCHEMA_OF_MORE = 1, 2  # the second: of a machine with more than memory and devices
LARGEST = 16 << 20
"""Bytes of a baseline that are read."""
LARGEST_UNPACKED = 256 << 20
"""Bytes of all its items together; of one, ``MAX_FILE_BYTES``."""


def dumps(offer: Offer) -> str:
    """The text of the file."""
    head = {
        "format": FORMAT,
        "schema": SCHEMA_OF_MORE if offer.setup.more else SCHEMA,
        "qemu": offer.qemu,
        "version": offer.version,
        "machine": offer.machine,
        "memory_mib": offer.setup.memory_mib,
        "devices": list(offer.setup.devices),
        **offer.setup.more,
    }
    lines = [json.dumps(head)[:-1] + ', "items": [']
    lines += [json.dumps(_item(item)) + "," for item in offer.items]
    lines[-1] = lines[-1].rstrip(",")
    return "\n".join([*lines, "]}"]) + "\n"


def _item(item: Item) -> dict[str, Any]:
    return {
        "key": f"{item.key:#06x}",
        "name": item.name,
        "size": len(item.data),
        "sha256": item.sha256,
        "writable": item.writable,
        "zlib": base64.b64encode(zlib.compress(item.data, 9)).decode("ascii"),
    }


def load(path: Path) -> Offer:
    """The offer in a file. Raises UserError: where, and what is wrong with it."""
    try:
        text = given_file.read(path, LARGEST).decode("utf-8")
    except given_file.Unreadable as error:
        raise UserError(str(error), file=path) from error
    except UnicodeDecodeError:
        raise _foreign(path, "it is not text") from None
    return loads(text, path)


def loads(text: str, path: Path) -> Offer:
    """The offer in a file's text; ``path`` is named in errors. Raises UserError."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith('{"format": "' + FORMAT):
            raise UserError(f"truncated or damaged: {error.msg}", file=path, line=error.lineno,
                            column=error.colno, hint="record it again") from None
        raise _foreign(path, "it is not JSON") from None
    except RecursionError:
        raise _foreign(path, "it is nested without end") from None
    except ValueError:
        raise _foreign(path, "a number in it is too long") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise _foreign(path, f"its format is not {FORMAT!r}")
    if found.get("schema") not in (SCHEMA, SCHEMA_OF_MORE):
        raise UserError(f"a baseline of schema {found.get('schema')!r}", file=path,
                        hint=f"this program reads schemas {SCHEMA} and {SCHEMA_OF_MORE}")
    machine, items, devices = found.get("machine"), found.get("items"), found.get("devices")
    memory = found.get("memory_mib")
    more = {name: found.get(name, getattr(Setup, name))
            for name in ("memory", "cpu", "smp", "words")}
    if not (isinstance(machine, str) and isinstance(items, list) and isinstance(devices, list)
            and all(isinstance(device, str) for device in devices)
            and type(memory) is int and memory > 0
            and all(isinstance(more[name], str) for name in ("memory", "cpu"))
            and isinstance(more["smp"], int | str) and isinstance(more["words"], list | tuple)
            and _words_complaint(more["words"]) is None):
        raise UserError("damaged: machine, memory_mib, devices or items is missing or of "
                        "another type", file=path, hint="record it again")
    more["words"] = tuple(more["words"])
    read: list[Item] = []
    left = LARGEST_UNPACKED
    for number, item in enumerate(items):
        read.append(_read_item(item, number, path, left))
        left -= len(read[-1].data)
    return Offer(str(found.get("qemu")), str(found.get("version")), machine,
                 Setup(memory, tuple(devices), **more), tuple(read))


def _words_complaint(words: Sequence[Any]) -> str | None:
    """What is wrong with arguments that a file has: no program is given what no matrix could."""
    if not all(isinstance(word, str) for word in words):
        return "words are texts"
    return complaint(words)


def _read_item(found: Any, number: int, path: Path, left: int) -> Item:
    # One item a line, after the line with the head.
    line = number + 2
    try:
        size = int(found["size"])
        if not 0 <= size <= MAX_FILE_BYTES:
            raise ValueError(size)
        if size > left:
            raise UserError(f"its items have more than {LARGEST_UNPACKED >> 20} MiB", file=path,
                            line=line)
        # A damaged or hostile file must not unpack to more than it says.
        packed = base64.b64decode(found["zlib"], validate=True)
        data = zlib.decompressobj().decompress(packed, size + 1)
        item = Item(int(found["key"], 16), str(found["name"]), data, found["writable"] is True)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error, zlib.error):
        raise UserError(f"damaged: no readable item {number}", file=path, line=line,
                        hint="record it again") from None
    if len(item.data) != size or item.sha256 != found.get("sha256"):
        raise UserError(f"damaged: the bytes of {item.name} are not those that were recorded",
                        file=path, line=line, hint="record it again")
    return item


def _foreign(path: Path, why: str) -> UserError:
    return UserError(f"not a fw_cfg baseline: {why}", file=path,
                     hint="bootmatrix fwcfg record makes one")
