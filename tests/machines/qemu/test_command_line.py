"""From a launch in the harness's words to QEMU's command line."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bootmatrix.boards import known_board
from bootmatrix.errors import UserError
from bootmatrix.machines.qemu.command_line import (
    FlashWindow,
    Kernel,
    Launch,
    qemu_argv,
)
from bootmatrix.model import Accel, Arch, Disk, MigrationMode, Nic, Tpm
from bootmatrix.modes import MODES

I440FX, Q35, DEFAULT = "pc-i440fx-5.2", "pc-q35-5.2", "default"
LAUNCH = Launch(
    binary="/usr/bin/qemu-system-x86_64",
    machine=Q35,
    board=known_board(Q35, Arch.X86_64),
    accel=Accel.TCG,
    disk=Disk.AHCI,
    disk_file="/cell/disk.img",
    firmware="/cell/source/bios.bin",
    directory="/cell/1-source",
)
WINDOW = FlashWindow("/cell/source/nvram.bin", 0x1000, 0x40000)
VARIABLES = FlashWindow("/cell/source/nvram.bin", 0x41000, 0x84000)
CODE = FlashWindow("/cell/source/code.fd", 0, 0x37C000, read_only=True)
NODE = ("-blockdev", "driver=raw,node-name=disk,file.driver=file,file.filename=/cell/disk.img")


def on(machine: str, arch: Arch = Arch.X86_64, **changed: Any) -> Launch:
    return replace(LAUNCH, machine=machine, board=known_board(machine, arch), **changed)


def options(launch: Launch) -> list[tuple[str, str]]:
    """The command line as (option, value) pairs; an option without a value has ""."""
    argv = list(qemu_argv(launch))[1:]
    pairs = []
    while argv:
        option = argv.pop(0)
        assert option.startswith("-"), option
        pairs.append((option, argv.pop(0) if argv and not argv[0].startswith("-") else ""))
    return pairs


def values(launch: Launch, option: str) -> list[str]:
    return [value for name, value in options(launch) if name == option]


def mode(name: str, **changed: Any) -> Launch:
    return replace(LAUNCH, mode=MODES[MigrationMode(name)], **changed)


def test_memory_that_another_qemu_can_have_is_an_object() -> None:
    assert qemu_argv(mode("cpr-exec")) == qemu_argv(mode("cpr-transfer")), (
        "its next program finds it there")
    handed = mode("cpr-transfer", memory_mib=64, handover="/cell/2/cpr.sock")
    assert ("-object", "memory-backend-memfd,id=ram,size=64M,share=on") in options(handed)
    (machine,) = values(handed, "-machine")
    assert machine.endswith(",memory-backend=ram,aux-ram-share=on")
    assert values(handed, "-incoming") == [], "it is no destination"
    first, then = values(replace(handed, incoming=True), "-incoming")
    assert first == "defer"
    assert json.loads(then) == {"channel-type": "cpr", "addr": {
        "transport": "socket", "type": "unix", "path": "/cell/2/cpr.sock"}}
    in_place = mode("cpr-reboot", memory_file="/cell/1.memory")
    assert values(in_place, "-object") == [
        "memory-backend-file,id=ram,size=32M,share=on,mem-path=/cell/1.memory"]
    assert values(in_place, "-machine")[0].endswith(",memory-backend=ram")
    assert values(LAUNCH, "-object") == []


def test_what_is_loaded_from_the_disk_finds_a_machine_that_stands_still() -> None:
    loading = mode("savevm", incoming=True, disk_format="qcow2")
    assert ("-S", "") in options(loading)
    assert values(loading, "-incoming") == []
    assert values(loading, "-blockdev")[0].startswith("driver=qcow2,node-name=disk,")
    assert ("-S", "") not in options(mode("savevm"))


@pytest.mark.parametrize(("name", "kind", "named"), [
    ("tls-x509", "tls-creds-x509", ""), ("tls-psk", "tls-creds-psk", ",username=bootmatrix")])
def test_a_qemu_has_the_credentials_of_both_ends(name: str, kind: str, named: str) -> None:
    assert values(mode(name, credentials="/tls"), "-object") == [
        f"{kind},id=tls-server,endpoint=server,dir=/tls",
        f"{kind},id=tls-client,endpoint=client,dir=/tls{named}"]


def test_the_whole_of_one() -> None:
    assert qemu_argv(LAUNCH) == (
        "/usr/bin/qemu-system-x86_64",
        "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
        "-machine", "pc-q35-5.2,accel=tcg,graphics=off",
        "-m", "32",
        "-bios", "/cell/source/bios.bin",
        *NODE, "-device", "ide-hd,drive=disk,bus=ide.0",
        "-chardev", "socket,id=monitor,path=/cell/1-source/monitor.sock,server=off",
        "-mon", "chardev=monitor,mode=control",
        "-chardev", "socket,id=console,path=/cell/1-source/console.sock,server=off",
        "-serial", "chardev:console",
    )  # fmt: skip


AHCI = ["ich9-ahci,id=ahci", "ide-hd,drive=disk,bus=ahci.0"]
PATA = ["piix3-ide,id=pata", "ide-hd,drive=disk,bus=pata.0"]
OWN = ["ide-hd,drive=disk,bus=ide.0"]  # of the board's own controller
VIRTIO = ["virtio-blk-pci,drive=disk"]


@pytest.mark.parametrize(
    ("machine", "disk", "devices"),
    [
        (Q35, Disk.AHCI, OWN), (Q35, Disk.IDE, PATA),
        (Q35, Disk.VIRTIO, VIRTIO), (Q35, Disk.FLOPPY, []),
        (I440FX, Disk.AHCI, AHCI), (I440FX, Disk.IDE, OWN),
        (I440FX, Disk.VIRTIO, VIRTIO), (I440FX, Disk.FLOPPY, []),
        # the default of every version so far is an i440fx
        (DEFAULT, Disk.AHCI, AHCI), (DEFAULT, Disk.IDE, OWN),
        (DEFAULT, Disk.VIRTIO, VIRTIO), (DEFAULT, Disk.FLOPPY, []),
    ],
)  # fmt: skip
def test_disks(machine: str, disk: Disk, devices: list[str]) -> None:
    launch = on(machine, disk=disk)
    assert values(launch, "-device") == devices
    floppy = "if=floppy,index=0,format=raw,file=/cell/disk.img"
    assert values(launch, "-drive") == ([floppy] if disk is Disk.FLOPPY else [])
    assert (NODE in options(launch)) == (disk is not Disk.FLOPPY)
    assert sum("/cell/disk.img" in value for _, value in options(launch)) == 1


@pytest.mark.parametrize("machine", [Q35, I440FX, "microvm"])
def test_the_machine_type_is_named(machine: str) -> None:
    launch = on(machine, disk=Disk.VIRTIO)
    assert values(launch, "-machine") == [f"{machine},accel=tcg,graphics=off"]


def test_the_default_machine_gives_no_type() -> None:
    launch = on(DEFAULT)
    assert values(launch, "-machine") == ["accel=tcg,graphics=off"]
    windowed = replace(launch, firmware=(WINDOW,))
    assert values(windowed, "-machine") == ["accel=tcg,graphics=off,pflash0=flash0"]


def test_accelerator() -> None:
    (machine,) = values(replace(LAUNCH, accel=Accel.KVM), "-machine")
    assert "accel=kvm" in machine.split(",")


def test_firmware_as_a_file() -> None:
    assert values(LAUNCH, "-bios") == ["/cell/source/bios.bin"]
    assert "pflash" not in " ".join(qemu_argv(LAUNCH))


def test_firmware_as_a_window_of_the_nvram_file() -> None:
    launch = replace(LAUNCH, firmware=(WINDOW,))
    assert values(launch, "-bios") == []
    # One file node with raw nodes over it: two file nodes on one file clash on the write lock.
    assert values(launch, "-blockdev")[:2] == [
        "driver=file,node-name=flash0-file,filename=/cell/source/nvram.bin",
        "driver=raw,node-name=flash0,file=flash0-file,offset=4096,size=262144",
    ]
    assert values(launch, "-machine") == [
        "pc-q35-5.2,accel=tcg,graphics=off,pflash0=flash0"
    ]
    assert "read-only" not in " ".join(qemu_argv(launch))


def test_code_and_variables_in_one_file() -> None:
    launch = replace(LAUNCH, firmware=(WINDOW, VARIABLES))
    assert values(launch, "-blockdev")[2:4] == [
        # The unit before has locked the file.
        "driver=file,node-name=flash1-file,filename=/cell/source/nvram.bin,locking=off",
        "driver=raw,node-name=flash1,file=flash1-file,offset=266240,size=540672",
    ]
    (machine,) = values(launch, "-machine")
    assert machine.endswith("pflash0=flash0,pflash1=flash1")


def test_code_of_the_hosts_is_read_only() -> None:
    launch = replace(LAUNCH, firmware=(CODE, replace(VARIABLES, file="/cell/source/vars.fd")))
    assert values(launch, "-blockdev")[:4] == [
        "driver=file,node-name=flash0-file,filename=/cell/source/code.fd,read-only=on",
        "driver=raw,node-name=flash0,file=flash0-file,offset=0,size=3653632,read-only=on",
        "driver=file,node-name=flash1-file,filename=/cell/source/vars.fd",
        "driver=raw,node-name=flash1,file=flash1-file,offset=266240,size=540672",
    ]


def test_secure_boot_needs_a_flash_that_only_smm_writes() -> None:
    launch = replace(LAUNCH, firmware=(CODE,), smm=True)
    assert "smm=on" in values(launch, "-machine")[0].split(",")
    assert values(launch, "-global") == ["driver=cfi.pflash01,property=secure,value=on"]


@pytest.mark.parametrize(
    ("machine", "arch", "cpu", "disk"),
    [
        ("microvm", Arch.X86_64, [], "virtio-blk-device,drive=disk"),
        ("virt-5.2", Arch.AARCH64, ["cortex-a57"], "virtio-blk-pci,drive=disk"),
        ("virt", Arch.RISCV64, [], "virtio-blk-pci,drive=disk"),
        ("s390-ccw-virtio-5.2", Arch.S390X, [], "virtio-blk-ccw,bootindex=1,drive=disk"),
    ],
)
def test_other_boards(machine: str, arch: Arch, cpu: list[str], disk: str) -> None:
    launch = on(machine, arch, disk=Disk.VIRTIO)
    assert values(launch, "-cpu") == cpu
    assert values(launch, "-device") == [disk]
    assert values(replace(launch, cpu="max"), "-cpu") == ["max"]


def test_a_disk_that_a_board_cannot_have() -> None:
    with pytest.raises(UserError, match="microvm has no ahci disk"):
        qemu_argv(on("microvm", disk=Disk.AHCI))


def test_cpus_and_a_network_card() -> None:
    assert values(LAUNCH, "-smp") == []
    launch = replace(LAUNCH, smp=2, nic=Nic.E1000_ROMSIZE, rom_size=262144)
    assert values(launch, "-smp") == ["2"]
    assert "e1000,romsize=262144" in values(launch, "-device")
    assert "virtio-net-pci" in values(replace(LAUNCH, nic=Nic.VIRTIO), "-device")


def test_a_tpm_of_which_an_emulator_listens() -> None:
    assert not {"-tpmdev", "tpm"} & set(qemu_argv(LAUNCH))
    launch = replace(LAUNCH, tpm=Tpm.TIS, tpm_socket="/cell/1-source-tpm/tpm.sock")
    assert "socket,id=tpm,path=/cell/1-source-tpm/tpm.sock,server=off" in values(
        launch, "-chardev")
    assert values(launch, "-tpmdev") == ["emulator,id=tpm,chardev=tpm"]
    assert "tpm-tis,tpmdev=tpm" in values(launch, "-device")
    assert "tpm-crb,tpmdev=tpm" in values(replace(launch, tpm=Tpm.CRB), "-device")
    arm = replace(launch, board=known_board("virt-7.2", Arch.AARCH64), machine="virt-7.2",
                  disk=Disk.VIRTIO)
    assert "tpm-tis-device,tpmdev=tpm" in values(arm, "-device")


def test_a_kernel_behind_the_firmware() -> None:
    kernel = Kernel("/cell/kernel", "/cell/initramfs", "console=ttyS0")
    launch = replace(LAUNCH, kernel=kernel)
    assert values(launch, "-kernel") == ["/cell/kernel"]
    assert values(launch, "-initrd") == ["/cell/initramfs"]
    assert values(launch, "-append") == ["console=ttyS0"]
    payload = replace(LAUNCH, kernel=Kernel("/cell/source/payload.bin"))
    assert not values(payload, "-initrd") + values(payload, "-append")


def test_incoming_waits_for_the_monitor() -> None:
    assert values(LAUNCH, "-incoming") == []
    incoming = replace(LAUNCH, incoming=True)
    assert values(incoming, "-incoming") == ["defer"]
    # The two ends of a migration differ in nothing else.
    assert options(incoming) == [*options(LAUNCH), ("-incoming", "defer")]


def test_a_long_post() -> None:
    assert values(LAUNCH, "-boot") == []
    long = replace(LAUNCH, post_ms=700)
    assert values(long, "-boot") == ["menu=on,splash-time=700"]


def test_a_menu_that_is_the_prompt_waits_without_an_end() -> None:
    s390x = on("s390-ccw-virtio-5.2", Arch.S390X, disk=Disk.VIRTIO)
    assert values(s390x, "-boot") == values(replace(s390x, post_ms=700), "-boot") == ["menu=on"]


def test_memory() -> None:
    assert values(replace(LAUNCH, memory_mib=64), "-m") == ["64"]


def test_qemu_is_the_client_of_every_socket() -> None:
    sockets = [value for value in values(LAUNCH, "-chardev") if value.startswith("socket")]
    assert len(sockets) == 2
    assert all(value.endswith(",server=off") for value in sockets)


def test_every_id_is_used_once_and_every_reference_has_one() -> None:
    for machine in (Q35, I440FX, DEFAULT):
        for disk in Disk:
            for firmware in ("/cell/bios.bin", (WINDOW,), (WINDOW, VARIABLES)):
                launch = on(machine, disk=disk, firmware=firmware)
                fields = [
                    tuple(part.split("=", 1))
                    for _, value in options(launch)
                    for part in value.split(",")
                    if "=" in part
                ]
                names = [value for key, value in fields if key in ("id", "node-name")]
                assert len(names) == len(set(names))
                own_buses = {"ide.0"}
                for key, value in fields:
                    if key in ("drive", "chardev", "pflash0", "pflash1"):
                        assert value in names
                    if key == "bus" and value not in own_buses:
                        assert value.split(".")[0] in names


def test_what_the_guest_is_to_find_in_fw_cfg() -> None:
    assert values(LAUNCH, "-fw_cfg") == []
    launch = replace(LAUNCH, label="source 9.0, mine", flash_file="/cell/flash.bin")
    assert values(launch, "-fw_cfg") == [
        "name=opt/bootmatrix/host,string=source 9.0,, mine",
        "name=opt/bootmatrix/flash,file=/cell/flash.bin",
    ]


def test_firmware_prints_its_debug_log_where_it_is_to() -> None:
    assert not any("debugcon" in word for word in qemu_argv(LAUNCH))
    logged = replace(LAUNCH, debug_log=True)
    assert values(logged, "-device")[-1] == "isa-debugcon,iobase=0x402,chardev=firmware"
    assert values(logged, "-chardev")[-1] == "ringbuf,id=firmware,size=1048576"
