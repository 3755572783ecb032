"""What stands around the steps in a reproduction script: its hosts, its kernel, its disks."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Collection, Iterator
from pathlib import Path

from bootmatrix.engines.confinement import device_paths
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Grant, Host, role_name
from bootmatrix.records.words import joined, quoted

_EMBEDDED = 256 << 10  # bytes of a disk, compressed, that a script holds itself
_PACKAGES = frozenset(f"qemu-system-{name}" for name in ("x86", "arm", "misc", "riscv"))
_WIDTH = 76


def variable(index: int) -> str:
    """The beginning of a host's variables."""
    return role_name(index).upper().replace("-", "_")


def host(
    index: int, host: Host, tcp: bool, grants: Collection[Grant] = ()
) -> Iterator[str]:
    """Where the QEMU and the firmware of a host are; ``tcp``: it must reach the other one so.

    Devices that are granted the user who runs the script must be able to open.
    """
    name, qemu, firmware = variable(index), host.qemu, host.firmware
    packages = dict(qemu.packages)
    package = _PACKAGES.intersection(packages)
    debian = "".join(f" of Debian's {one} {packages[one]}" for one in package)
    yield ""
    yield f"# {role_name(index)}: QEMU {qemu.version}{debian}, in the root file system"
    yield f"# that `bootmatrix images build {qemu.root_name or qemu.name}` makes and caches."
    program = f"/path/to/qemu-system-{qemu.arch}"
    yield f"# Your own: {name}_QEMU='{program}' {name}_FIRMWARE=/path bash THIS"
    yield f'if [ -n "${{{name}_QEMU:-}}" ]; then'
    yield f'    read -ra {name} <<<"${name}_QEMU"'
    yield "else"
    unshare = ["--unshare-user-try", "--unshare-pid", "--unshare-ipc"] if tcp else ["--unshare-all"]
    mounts = [word for directory, inside in qemu.mounts
              for word in ("--ro-bind", str(directory), inside)]
    sandbox = ["bwrap", "--ro-bind", str(qemu.root), "/", "--dev", "/dev", "--proc", "/proc"]
    for device in device_paths(grants):
        sandbox += ["--dev-bind", device, device]
    yield f"    {name}=({joined(sandbox)}"
    yield f"        --tmpfs /tmp {joined(mounts)}".rstrip()
    yield '        --bind "${WORK:=$(mktemp -d)}" /cell --chdir /cell --setenv TMPDIR /cell'
    words = [word for name_and_value in qemu.environment for word in ("--setenv", *name_and_value)]
    yield f"        {joined([*unshare, *words])} --die-with-parent --"
    yield f"        {joined([qemu.binary, *qemu.arguments])})"
    yield "fi"
    yield f"# {firmware.name}, sha256 {firmware.sha256}"
    yield _default(f"{name}_FIRMWARE", firmware.path)
    if firmware.variables is not None:
        yield _default(f"{name}_VARIABLES", firmware.variables)
    if firmware.payload is not None:
        yield _default(f"{name}_PAYLOAD", firmware.payload)


def kernel(setup: GuestSetup) -> Iterator[str]:
    """Where the kernel is that QEMU boots, if it does."""
    if setup.kernel is not None:
        yield ""
        yield "# What -kernel and -initrd boot; your own: KERNEL=/path INITRAMFS=/path"
        yield _default("KERNEL", setup.kernel.kernel)
        yield _default("INITRAMFS", setup.kernel.initramfs)


def own_disk(setup: GuestSetup) -> Iterator[str]:
    """Where the user's own disk is, if it is booted; and what its guest says when it is up."""
    if (disk := setup.own_disk) is not None:
        yield ""
        yield "# The disk of your own, which is copied and never written; another: OWN_DISK=/path"
        yield _default("OWN_DISK", disk.path.absolute())
        yield f"UP={quoted(setup.guest.up)}"


def disk(name: str, image: Path) -> Iterator[str]:
    """A command ``name`` FILE, which makes a disk."""
    data = image.read_bytes()
    # Sparse: only what is not zero at its end is told.
    packed = gzip.compress(data.rstrip(b"\0"), mtime=0)
    yield ""
    if len(packed) > _EMBEDDED:
        yield "# The guest's disk, where bootmatrix has made it (images/guests/); your own: "\
              f"{name.upper()}=/path"
        yield _default(name.upper(), image)
        yield f'{name}() {{ cp "${name.upper()}" "$1"; }}'
        return
    text = base64.b64encode(packed).decode()
    yield f"{name}() {{  # {name} FILE: the guest's disk (images/guests/)"
    yield "    base64 -d <<'END' | gzip -d >\"$1\""
    yield from (text[at:at + _WIDTH] for at in range(0, len(text), _WIDTH))
    yield "END"
    yield f'    truncate -s {len(data)} "$1"'
    yield "}"


def _default(variable: str, file: Path) -> str:
    return f"{variable}=${{{variable}:-{quoted(str(file))}}}"
