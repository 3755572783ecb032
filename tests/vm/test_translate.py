"""What is kept of a machine, what replaced, what left out: never silently."""

from __future__ import annotations

import pytest

from bootmatrix.model import Arch
from bootmatrix.vm.translate import ADDED, KEPT, LEFT_OUT, REPLACED, Translated, translate


def of(text: str, program: str = "qemu-system-x86_64", **more: int) -> Translated:
    return translate(program, text.split(), **more)  # type: ignore[arg-type]


def became(found: Translated, given: str) -> str:
    """What became of the argument that begins so, and why."""
    return " ".join(str(line) for line in found.lines if line.given.startswith(given))


def test_each_argument_is_told_of() -> None:
    text = ("-name x -machine pc-q35-7.2,accel=kvm,smm=on -cpu host,migratable=on -m 4096 -smp 2 "
            "-nodefaults -device vfio-pci,host=01:00.0 -vnc :1 -whatever 3 stray -device VGA,id=v")
    found = of(text)
    assert [(line.kind, line.given) for line in found.lines] == [
        (KEPT, "-machine pc-q35-7.2"), (LEFT_OUT, "-machine accel=kvm"), (KEPT, "-machine smm=on"),
        (REPLACED, "-m 4096"), (LEFT_OUT, "-name x"), (REPLACED, "-cpu host,migratable=on"),
        (KEPT, "-smp 2"), (KEPT, "-nodefaults"), (LEFT_OUT, "-device vfio-pci,host=01:00.0"),
        (LEFT_OUT, "-vnc :1"), (LEFT_OUT, "-whatever 3"), (LEFT_OUT, "stray"),
        (KEPT, "-device VGA,id=v"), (ADDED, "a serial port")]
    machine = found.machine
    assert (machine.machine, machine.cpu, machine.smp, machine.memory) == (
        "pc-q35-7.2,smm=on", "max", 2, 1024)
    assert machine.words == ("-device", "VGA,id=v")
    assert not machine.has_disk
    assert not machine.has_console


@pytest.mark.parametrize(("given", "machine"), [
    ("q35", "newest-common:pc-q35"), ("pc,acpi=off", "newest-common:pc-i440fx,acpi=off"),
    ("pc-q35-rhel9.2.0", "newest-common:pc-q35"), ("pc-i440fx-jammy", "newest-common:pc-i440fx"),
    ("pc-q35-8.1+pve0", "pc-q35-8.1"), ("pc-i440fx-5.2", "pc-i440fx-5.2"), ("isapc", "isapc"),
    ("microvm,rtc=on", "microvm,rtc=on"),
])
def test_machine_types(given: str, machine: str) -> None:
    assert of(f"-nodefaults -M {given}").machine.machine == machine


def test_the_disk_that_was_booted_from_is_ours_and_comes_first() -> None:
    found = of("-nodefaults -M pc-q35-7.2 -drive file=/a,if=none,id=a -drive file=/b,if=none,id=b "
               "-device virtio-blk-pci,drive=a,bootindex=3 -device ide-hd,drive=b,bootindex=2 "
               "-device e1000e,bootindex=1 -device ide-cd,drive=c")
    words = " ".join(found.machine.words)
    assert found.machine.has_disk
    assert "-device ide-hd,drive=disk,bootindex=0" in words
    assert "-device virtio-blk-pci,drive=vm-empty0,bootindex=4" in words
    assert "driver=null-co,node-name=vm-empty0" in words
    assert "-device e1000e,bootindex=2" in words
    assert words.endswith("-device ide-cd")
    assert "/a" not in words
    assert "an empty disk of 1 GiB" in became(found, "-device virtio-blk-pci")


def test_disks_of_the_old_kind() -> None:
    words = " ".join(of("-M pc -nodefaults -hda x -drive file=y,if=virtio -cdrom z -fda f")
                     .machine.words)
    assert "ide-hd,bus=ide.0,unit=0,drive=disk,bootindex=0" in words
    assert "virtio-blk-pci,drive=vm-empty1" in words
    assert "ide-cd,bus=ide.1,unit=0" in words
    assert "if=floppy" in became(of("-M pc -nodefaults -fda f"), "-fda")


def test_memory_is_scaled_with_all_its_parts() -> None:
    found = of("-nodefaults -M q35 -m 8G,slots=2,maxmem=16G "
               "-object memory-backend-file,id=a,size=6G,mem-path=/dev/hugepages,share=on "
               "-object memory-backend-memfd,id=b,size=2G,hugetlb=on -numa node,memdev=a "
               "-numa node,memdev=b", memory=512)
    assert found.machine.memory == "512,slots=2,maxmem=16384M"
    words = " ".join(found.machine.words)
    assert "memory-backend-file,id=a,size=384M,share=on,mem-path=/cell" in words
    assert "memory-backend-file,id=b,size=128M,share=on,mem-path=/cell" in words
    assert "hugepages" not in words
    assert "its part of the memory" in became(found, "-object memory-backend-memfd")


def test_nothing_of_the_hosts_is_left() -> None:
    found = of("-M q35 -nodefaults -netdev tap,id=n,script=/x -device e1000e,netdev=n,romfile=/x "
               "-chardev socket,path=/x,id=c -device virtio-serial-pci "
               "-device virtserialport,chardev=c,name=a -chardev file,path=/x,id=monitor "
               "-device virtconsole,chardev=monitor -chardev pty,id=unused -audiodev pa,id=s "
               "-object rng-random,filename=/x,id=r -device virtio-rng-pci,rng=r "
               "-object secret,id=k,file=/x -fw_cfg name=opt/a,file=/x -smbios file=/x "
               "-device virtio-9p-pci,fsdev=f -fsdev local,path=/x,id=f -bios /x/OVMF.fd -usb "
               "-device vhost-user-fs-pci,chardev=c -acpitable file=/x -boot splash=/x,menu=on")
    words = " ".join(found.machine.words)
    assert "/x" not in words
    assert found.machine.uefi
    for now in ("user,id=n,restrict=on", "null,id=c", "null,id=vm-monitor", "none,id=s",
                "rng-builtin,id=r", "-boot menu=on"):
        assert now in words
    assert "nothing that is kept has it" in became(found, "-chardev pty")
    none = translate("kvm", ["-M", "q35", "-nodefaults", "-nic", "tap,model=e1000", "-netdev",
                             "tap,id=n", "-device", "rtl8139,netdev=n"], network=False)
    assert none.machine.words == ("-device", "e1000", "-device", "rtl8139")


def test_the_console_is_a_device_that_was_there() -> None:
    found = of("-M q35 -nodefaults -chardev pty,id=a -device isa-serial,chardev=a,index=0 "
               "-chardev pty,id=b -device isa-serial,chardev=b,index=1")
    assert found.machine.has_console
    assert "-device isa-serial,chardev=console,index=0" in " ".join(found.machine.words)
    assert "the console that is read" in became(found, "-chardev pty,id=a")
    assert not of("-M q35 -nodefaults -serial stdio").machine.has_console


def test_what_qemu_has_of_itself_is_added() -> None:
    found = of("-M q35")
    assert [line.given for line in found.lines if line.kind == ADDED] == [
        "-device VGA", "the network card", "a serial port"]
    assert "e1000e" in " ".join(found.machine.words)


@pytest.mark.parametrize("given", ["-device", "-device {", "-object x", "-smp x", "-m x", "-numa",
                                   "-M ,", "-drive file=/x,index=99999999999", "-machine"])
def test_nonsense_is_no_traceback(given: str) -> None:
    translate("qemu-system-x86_64", given.split())


def test_programs() -> None:
    assert of("-M virt-7.2", "/usr/bin/qemu-system-aarch64").machine.arch is Arch.AARCH64
    assert of("", "qemu-kvm").machine.arch is Arch.X86_64
    with pytest.raises(ValueError, match="emulates s390x"):
        of("", "qemu-system-s390x")


def test_shared_memory_is_as_large_as_its_files_can_be() -> None:
    text = "-nodefaults -M q35,memory-backend=a -m 8G -object memory-backend-memfd,id=a,size=8G"
    found = of(text)
    assert found.machine.memory == 256
    assert "size=256M" in " ".join(found.machine.words)
    with pytest.raises(ValueError, match="at most 256 with this machine's nodes"):
        of(text, memory=512)
