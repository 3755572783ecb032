"""A launch, described in the harness's words, to QEMU's command line. Pure.

The options used are spelled so that QEMU 5.2 to 11.1 take them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.fw_cfg_format.option import FwCfgFile
from harness.model import DEFAULT_MACHINE, Accel, Disk

# SeaBIOS with a boot menu waits so long for a key (QEMU's -boot splash-time, in ms): the window
# in which a guest can be migrated while its firmware still runs.
POST_WINDOW_MS = 500
# What images/guests/probe.asm looks for in fw_cfg.
LABEL_ITEM = "opt/bootmatrix/host"
FLASH_ITEM = "opt/bootmatrix/flash"


@dataclass(frozen=True)
class FlashWindow:
    """A range of the guest's nvram file that is mapped as flash; in bytes, multiples of 4 KiB."""

    file: str
    offset: int
    size: int


@dataclass(frozen=True)
class Launch:
    """How a QEMU is to be started. Paths are those inside the sandbox.

    ``directory`` holds the sockets that the harness listens on. ``firmware`` is a file for
    ``-bios``, or the window that becomes pflash unit 0. ``arguments`` are the QEMU build's own.
    ``label`` is what the guest finds in fw_cfg about its host, and ``flash_file`` the image that
    it finds there to flash itself with; "": nothing.
    """

    binary: str
    machine: str
    accel: Accel
    disk: Disk
    disk_file: str
    firmware: str | FlashWindow
    directory: str
    incoming: bool = False
    long_post: bool = False
    memory_mib: int = 32
    arguments: tuple[str, ...] = ()
    label: str = ""
    flash_file: str = ""


def qemu_argv(launch: Launch) -> tuple[str, ...]:
    """The command line. QEMU is the client of every socket, so nothing has to be polled."""
    machine = [f"accel={launch.accel.value}", "graphics=off"]
    if launch.machine != DEFAULT_MACHINE:
        machine.insert(0, launch.machine)
    firmware: list[str] = []
    if isinstance(launch.firmware, FlashWindow):
        window = launch.firmware
        firmware = [
            "-blockdev", f"driver=file,node-name=nvram,filename={window.file}",
            "-blockdev", "driver=raw,node-name=nvram-firmware,file=nvram,"
                         f"offset={window.offset},size={window.size}",
        ]  # fmt: skip
        machine.append("pflash0=nvram-firmware")
    else:
        firmware = ["-bios", launch.firmware]
    argv = [
        launch.binary,
        *launch.arguments,
        "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
        "-machine", ",".join(machine),
        "-m", str(launch.memory_mib),
        *firmware,
        *_disk(launch.disk, launch.disk_file, launch.machine),
        *_socket("monitor", launch.directory), "-mon", "chardev=monitor,mode=control",
        *_socket("console", launch.directory), "-serial", "chardev:console",
    ]  # fmt: skip
    if launch.label:
        argv += FwCfgFile(LABEL_ITEM, string=launch.label).argv
    if launch.flash_file:
        argv += FwCfgFile(FLASH_ITEM, file=launch.flash_file).argv
    if launch.long_post:
        argv += ["-boot", f"menu=on,splash-time={POST_WINDOW_MS}"]
    if launch.incoming:
        argv += ["-incoming", "defer"]
    return tuple(argv)


def _socket(name: str, directory: str) -> Sequence[str]:
    return ("-chardev", f"socket,id={name},path={directory}/{name}.sock,server=off")


def _disk(disk: Disk, file: str, machine: str) -> Sequence[str]:
    if disk is Disk.FLOPPY:
        return ("-drive", f"if=floppy,index=0,format=raw,file={file}")
    node = ("-blockdev", f"driver=raw,node-name=disk,file.driver=file,file.filename={file}")
    q35 = "q35" in machine
    if disk is Disk.VIRTIO:
        return (*node, "-device", "virtio-blk-pci,drive=disk")
    if disk is Disk.AHCI:
        if q35:  # the board has one, its ports are ide.0 to ide.5
            return (*node, "-device", "ide-hd,drive=disk,bus=ide.0")
        return (*node, "-device", "ich9-ahci,id=ahci", "-device", "ide-hd,drive=disk,bus=ahci.0")
    if q35:  # the board has none
        return (*node, "-device", "piix3-ide,id=pata", "-device", "ide-hd,drive=disk,bus=pata.0")
    return (*node, "-device", "ide-hd,drive=disk,bus=ide.0")
