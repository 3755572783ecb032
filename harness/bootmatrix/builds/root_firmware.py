"""The catalogue's firmware in a root of packages: what it is, as facts, and as a build again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bootmatrix.builds.catalogue import FirmwareEntry, SigningEntry
from bootmatrix.errors import ImageError, UserError
from bootmatrix.firmware import descriptor, edk2
from bootmatrix.firmware.identity import printed_version, sha256
from bootmatrix.model import Arch, FirmwareBuild, Interface, Signing
from bootmatrix.roots import debian

DESCRIPTORS = "usr/share/qemu/firmware"

_NO_NAME = re.compile(r"[^A-Za-z0-9.+-]+")


def describe(
    short: str, entry: FirmwareEntry, root: Path, packages: Mapping[str, str], arch: Arch
) -> dict[str, Any]:
    """What a root has of a firmware, as plain JSON data; paths are relative to the root.

    Raises ImageError where a file is not there, or a descriptor is none.
    """
    package = next((name for name in entry.package if name in packages), None)
    if package is None:
        raise ImageError(f"{short} is of no package that is there: {', '.join(entry.package)}")
    if entry.descriptor:
        said = _described(f"{DESCRIPTORS}/{entry.descriptor}", root, package, arch)
        files, variables = [said.executable], said.variables
        interface, machines, features = said.interface, said.machines, said.features
    else:
        files, variables = entry.file, entry.variables
        interface = entry.interface or Interface.BIOS
        machines, features = tuple(entry.machines), tuple(entry.features)
    there = [file for file in files if debian.follow(root, file).is_file()]
    file = _relative(there[0] if there else files[0], root, package)
    image = (root / file).read_bytes()
    store = 0 if variables else edk2.store_size(image)
    return {
        "short": short,
        "name": f"{short}-{_NO_NAME.sub('-', packages[package])}",
        "file": file,
        "sha256": sha256(image[store:]),
        "size": len(image),
        "interface": interface.value,
        "prints": printed_version(image),
        "variables": _relative(variables, root, package) if variables else None,
        "machines": machines,
        "features": features,
        "payload": _relative(entry.payload, root, "its package") if entry.payload else None,
        "store_size": store,
    }


def build(
    facts: Mapping[str, Any], root: Path, signing: SigningEntry | None = None
) -> FirmwareBuild:
    """The firmware build that ``describe`` found in this root."""
    def place(name: str) -> Path | None:
        return root / facts[name] if facts[name] else None

    return FirmwareBuild(
        name=facts["name"],
        sha256=facts["sha256"],
        size=facts["size"],
        path=root / facts["file"],
        interface=Interface(facts["interface"]),
        prints=facts["prints"],
        variables=place("variables"),
        machines=tuple(facts["machines"]),
        features=tuple(facts["features"]),
        payload=place("payload"),
        store_size=facts["store_size"],
        signing=Signing(root / signing.key, root / signing.certificate, signing.passphrase)
        if signing else None,
        catalogued=True,
    )  # fmt: skip


def _described(file: str, root: Path, package: str, arch: Arch) -> descriptor.Descriptor:
    try:
        text = (root / _relative(file, root, package)).read_text(encoding="utf-8")
        return descriptor.parse(text, arch)
    except (UserError, ValueError) as error:
        raise ImageError(f"{package}'s {file}: {error}") from None


def _relative(file: str, root: Path, package: str) -> str:
    """A file of the root by the name it has behind all links. Raises ImageError without it."""
    found = debian.follow(root, file)
    if not found.is_file():
        raise ImageError(f"{package} brings no {file.lstrip('/')}")
    return str(found.relative_to(root))
