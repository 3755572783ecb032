"""A launch, described in the harness's words, to QEMU's command line. Pure.

The options used are spelled so that QEMU 5.2 to 11.1 take them alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bootmatrix.arguments import machine_options, machine_type
from bootmatrix.boards import Attachment, Board
from bootmatrix.fw_cfg.format.option import FwCfgFile
from bootmatrix.model import DEFAULT_MACHINE, Accel, Disk, MigrationMode, Nic, Tpm
from bootmatrix.modes import MODES, PEER, Credentials, Memory, Mode

# What images/guests/probe.asm looks for in fw_cfg.
LABEL_ITEM = "opt/bootmatrix/host"
FLASH_ITEM = "opt/bootmatrix/flash"
# QEMU keeps the end of what firmware prints, in its memory: no file grows, and nothing is written.
DEBUG_LOG, DEBUG_LOG_BYTES = "firmware", 1 << 20
DISK_NODE, _MEMORY_NODE = "disk", "ram"
_DEBUG_PORT = 0x402  # SeaBIOS's and OVMF's


@dataclass(frozen=True)
class FlashWindow:
    """A range of a file that is mapped as flash; in bytes, multiples of 4 KiB."""

    file: str
    offset: int
    size: int
    read_only: bool = False


@dataclass(frozen=True)
class Base:
    """An image that is only read, and its format: the guest's disk is a qcow2 overlay of it."""

    file: str
    format: str


Flash = tuple[FlashWindow, ...]
"""What is mapped as QEMU's pflash units, from 0 on: the firmware, and its variables if split."""


@dataclass(frozen=True)
class Kernel:
    """What ``-kernel`` starts behind the firmware; paths inside the sandbox, "" for none."""

    file: str
    initrd: str = ""
    command_line: str = ""


@dataclass(frozen=True)
class Launch:
    """How a QEMU is to be started: ``machine`` is a version of ``board``.

    Paths are those inside the sandbox. ``directory`` holds the sockets that the harness listens
    on. ``firmware`` is a file for ``-bios``, or the windows that become flash. ``arguments`` are
    the QEMU build's own. ``label`` is what the guest finds in fw_cfg about its host, and
    ``flash_file`` the image that it finds there to flash itself with; "": nothing. ``smm`` protects
    the flash, as firmware with Secure Boot demands. ``rom_size`` is that of the network card's ROM
    block in bytes, 0 leaves it to the size of the host's ROM file. ``debug_log`` gives firmware a
    port to print to. ``memory`` is what -m is given where ``memory_mib`` does not say all of it,
    and ``words`` stand behind all else. With the disk ``own`` a device among them has it, with
    ``has_console`` one has the console. ``base``: the disk is an overlay of it. ``network``: the
    card is connected to a user-mode network that is cut off from everything. ``mode`` is that of
    its migrations; what it shows then lies in the directory ``credentials``. The disk is of
    ``disk_format``, if it is no overlay; memory that lies in a file has ``memory_file``, and
    ``handover`` is the socket at which a destination is given it by descriptor. ``tpm_socket`` is
    the one of the emulator that is its TPM.
    """

    binary: str
    machine: str
    board: Board
    accel: Accel
    disk: Disk
    disk_file: str
    firmware: str | Flash
    directory: str
    incoming: bool = False
    post_ms: int = 0
    memory_mib: int = 32
    arguments: tuple[str, ...] = ()
    label: str = ""
    flash_file: str = ""
    cpu: str = ""
    smp: int | str = 1
    nic: Nic = Nic.NONE
    rom_size: int = 0
    smm: bool = False
    kernel: Kernel | None = None
    debug_log: bool = False
    memory: str = ""
    words: tuple[str, ...] = ()
    network: bool = False
    base: Base | None = None
    has_console: bool = False
    mode: Mode = MODES[MigrationMode.PRECOPY]
    disk_format: str = "raw"
    memory_file: str = ""
    handover: str = ""
    credentials: str = ""
    tpm: Tpm = Tpm.NONE
    tpm_socket: str = ""


def bare(
    binary: str, arguments: Sequence[str], machine: str, settings: Sequence[str], memory_mib: int,
    memory: str = "",
) -> list[str]:
    """How every QEMU is begun, with a guest or without: nothing but what the board has of itself.

    ``settings`` are those of the machine, ``accel=tcg``; ``memory`` is what -m is given, if it is
    more than a number of MiB.
    """
    kind = [] if machine_type(machine) == DEFAULT_MACHINE else [machine_type(machine)]
    kind += settings
    if options := machine_options(machine):
        kind.append(options.removeprefix(","))
    return [
        binary,
        *arguments,
        "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
        "-machine", ",".join(kind),
        "-m", memory or str(memory_mib),
    ]  # fmt: skip


def qemu_argv(launch: Launch) -> tuple[str, ...]:
    """The command line. QEMU is the client of every socket, so nothing has to be polled.

    Raises UserError for a disk that the board cannot have.
    """
    machine = [f"accel={launch.accel.value}", "graphics=off"]
    if launch.smm:
        machine.append("smm=on")
    memory: list[str] = []
    if launch.mode.memory is not Memory.ANONYMOUS:
        memory = _memory(launch)
        machine.append(f"memory-backend={_MEMORY_NODE}")
    if launch.mode.memory is Memory.MEMFD:
        machine.append("aux-ram-share=on")
    firmware: list[str] = []
    if isinstance(launch.firmware, str):
        firmware = ["-bios", launch.firmware]
    else:
        for unit, window in enumerate(launch.firmware):
            firmware += _flash(unit, window, launch.firmware[:unit])
            machine.append(f"pflash{unit}=flash{unit}")
    argv = [
        *bare(launch.binary, launch.arguments, launch.machine, machine, launch.memory_mib,
              launch.memory),
        *memory,
        *firmware,
        *_disk(launch),
        *_socket("monitor", launch.directory), "-mon", "chardev=monitor,mode=control",
        *_socket("console", launch.directory),
        *(() if launch.has_console else ("-serial", "chardev:console")),
    ]  # fmt: skip
    cpu = launch.cpu or launch.board.cpu
    if cpu:
        argv += ["-cpu", cpu]
    if launch.smp != 1:
        argv += ["-smp", str(launch.smp)]
    if launch.nic is not Nic.NONE:
        network = ",netdev=net" if launch.network else ""
        argv += ["-netdev", "user,id=net,restrict=on"] if launch.network else []
        argv += ["-device", _nic(launch.nic, launch.rom_size) + network]
    if launch.smm:  # only code that runs in SMM may write to the flash
        argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    if launch.kernel is not None:
        argv += _kernel(launch.kernel)
    if launch.label:
        argv += FwCfgFile(LABEL_ITEM, string=launch.label).argv
    if launch.flash_file:
        argv += FwCfgFile(FLASH_ITEM, file=launch.flash_file).argv
    if launch.board.waits_at_menu:  # as long as it is given no time
        argv += ["-boot", "menu=on"]
    elif launch.post_ms:
        argv += ["-boot", f"menu=on,splash-time={launch.post_ms}"]
    if launch.debug_log:
        argv += debug_log()
    if launch.tpm is not Tpm.NONE:
        argv += _tpm(launch)
    if launch.mode.credentials is not None:
        argv += _credentials(launch.mode.credentials, launch.credentials)
    if launch.incoming:
        # What is loaded from the disk finds a machine that was not begun.
        argv += ["-S"] if launch.mode.leaves_first else ["-incoming", "defer"]
        if launch.handover:
            argv += ["-incoming", json.dumps(cpr_channel(launch.handover))]
    argv += launch.words
    return tuple(argv)


def cpr_channel(socket: str) -> dict[str, Any]:
    """What QEMU is told of a channel for descriptors (its MigrationChannel)."""
    return {"channel-type": "cpr",
            "addr": {"transport": "socket", "type": "unix", "path": socket}}


def _memory(launch: Launch) -> list[str]:
    """The object that holds all of the guest's memory, where others can have it."""
    kind = launch.mode.memory
    file = f",mem-path={launch.memory_file}" if kind is Memory.FILE else ""
    return ["-object", f"{kind.value},id={_MEMORY_NODE},size={launch.memory_mib}M,share=on{file}"]


def _tpm(launch: Launch) -> Sequence[str]:
    return ("-chardev", f"socket,id=tpm,path={launch.tpm_socket},server=off",
            "-tpmdev", "emulator,id=tpm,chardev=tpm",
            "-device", f"{launch.board.tpms[launch.tpm]},tpmdev=tpm")


def _credentials(kind: Credentials, directory: str) -> Iterator[str]:
    """Those of a source and of a destination: a QEMU can be one after the other."""
    named = f",username={PEER}" if kind is Credentials.PSK else ""
    for end, more in (("server", ""), ("client", named)):
        yield "-object"
        yield f"{kind.value},id=tls-{end},endpoint={end},dir={directory}{more}"


def debug_log() -> Sequence[str]:
    """The port that firmware prints its debug log to, if it finds it; QEMU keeps its end."""
    return ("-chardev", f"ringbuf,id={DEBUG_LOG},size={DEBUG_LOG_BYTES}",
            "-device", f"isa-debugcon,iobase={_DEBUG_PORT:#x},chardev={DEBUG_LOG}")


def _flash(unit: int, window: FlashWindow, before: Flash) -> Sequence[str]:
    file = f"driver=file,node-name=flash{unit}-file,filename={window.file}"
    if window.read_only:
        file += ",read-only=on"
    if any(other.file == window.file for other in before):
        # The unit before has locked the file. (QEMU 5.2 takes no two windows over one node.)
        file += ",locking=off"
    raw = (
        f"driver=raw,node-name=flash{unit},file=flash{unit}-file,"
        f"offset={window.offset},size={window.size}"
    )
    if window.read_only:
        raw += ",read-only=on"
    return ("-blockdev", file, "-blockdev", raw)


def _socket(name: str, directory: str) -> Sequence[str]:
    return ("-chardev", f"socket,id={name},path={directory}/{name}.sock,server=off")


def _kernel(kernel: Kernel) -> Sequence[str]:
    argv = ["-kernel", kernel.file]
    if kernel.initrd:
        argv += ["-initrd", kernel.initrd]
    if kernel.command_line:
        argv += ["-append", kernel.command_line]
    return argv


def _nic(nic: Nic, rom_size: int) -> str:
    name, _, _ = nic.value.partition("-")
    device = {"virtio": "virtio-net-pci", "e1000": "e1000"}[name]
    return f"{device},romsize={rom_size}" if rom_size else device


def _disk(launch: Launch) -> Sequence[str]:
    file = launch.disk_file
    format_ = launch.disk_format
    nodes = ["-blockdev",
             f"driver={format_},node-name={DISK_NODE},file.driver=file,file.filename={file}"]
    if launch.base is not None:
        nodes = [
            "-blockdev",
            f"driver=file,node-name=base-file,filename={launch.base.file},read-only=on",
            "-blockdev",
            f"driver={launch.base.format},node-name=base,file=base-file,read-only=on",
            "-blockdev",
            f"driver=qcow2,node-name={DISK_NODE},file.driver=file,file.filename={file},"
            "backing=base",
        ]
    if launch.disk is Disk.OWN:
        return nodes
    disk: Attachment = launch.board.attachment(launch.disk)
    if not disk.device:
        return ("-drive", f"if=floppy,index=0,format={format_},file={file}")
    if disk.controller:
        nodes += ["-device", disk.controller]
    bus = f",bus={disk.bus}" if disk.bus else ""
    return (*nodes, "-device", f"{disk.device},drive={DISK_NODE}{bus}")
