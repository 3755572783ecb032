"""What is kept of a machine, what replaced, what left out: never silently."""

from __future__ import annotations

import pytest

from bootmatrix.model import Arch
from bootmatrix.vm.translate import ADDED, LEFT_OUT, REPLACED, RETAINED, Translated, translate


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
        (RETAINED, "-machine pc-q35-7.2"), (LEFT_OUT, "-machine accel=kvm"),
        (RETAINED, "-machine smm=on"),
        (REPLACED, "-m 4096"), (LEFT_OUT, "-name x"), (REPLACED, "-cpu host,migratable=on"),
        (RETAINED, "-smp 2"), (RETAINED, "-nodefaults"),
        (LEFT_OUT, "-device vfio-pci,host=01:00.0"),
        (LEFT_OUT, "-vnc :1"), (LEFT_OUT, "-whatever 3"), (LEFT_OUT, "stray"),
        (RETAINED, "-device VGA,id=v"), (ADDED, "a serial port")]
    machine = found.machine
    assert (machine.machine, machine.cpu, machine.smp, machine.memory) == (
        "pc-q35-7.2,smm=on", "max", 2, 1024)
    assert machine.words == ("-device", "VGA,id=v")
    assert not machine.has_disk
    assert not machine.has_console


@pytest.mark.parametrize(("given", "machine"), [
    ("q35", "newest-common:pc-q35"), ("pc,acpi=off", "newest-common:pc-i440fx,acpi=off"),
    ("pc-q35-rhel9.2.0", "newest-common:pc-q35"), ("pc-i440fx-jammy", "newest-common:pc-i440fx"),
    ("pc-q35-8.1+pve0", "pc-q35-8.1"), ("type=pc+pve0", "newest-common:pc-i440fx"),
    ("q35+pve1", "newest-common:pc-q35"), ("pc-i440fx-5.2", "pc-i440fx-5.2"), ("isapc", "isapc"),
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


@pytest.mark.parametrize(("given", "place"), [
    ("-M pc -nodefaults -drive file=x,bus=1,unit=1", "bus=ide.1,unit=1"),
    ("-M q35 -nodefaults -drive file=x,if=ide,bus=3", "bus=ide.3,unit=0"),
    ("-M pc -nodefaults -hda y -drive file=x,bus=0", "bus=ide.0,unit=1"),
    ("-M pc -nodefaults -drive file=x,if=virtio,addr=7", "virtio-blk-pci,addr=7"),
    ("-M pc -nodefaults -net nic,addr=5,model=e1000 -net user", "netdev=vm-net1,addr=5"),
    ("-M pc -nodefaults -balloon virtio,id=b,addr=6 -set device.b.deflate-on-oom=on",
     "virtio-balloon-pci,id=b,addr=6 -set device.b.deflate-on-oom=on")])
def test_where_it_is_plugged_in_is_kept(given: str, place: str) -> None:
    assert place in " ".join(of(given).machine.words)


def test_a_change_of_what_is_gone_goes_too() -> None:
    found = of("-M pc -nodefaults -device vfio-pci,id=a -set device.a.x=1 -set drive.d.cache=none")
    assert "-set" not in found.machine.words
    assert "no device of that id" in became(found, "-set device.a.x=1")


def test_memory_is_scaled_with_all_its_parts() -> None:
    found = of("-nodefaults -M q35 -m 8G,slots=2,maxmem=16G "
               "-object memory-backend-file,id=a,size=6G,mem-path=/dev/hugepages,share=on "
               "-object memory-backend-memfd,id=b,size=2G,hugetlb=on -numa node,memdev=a "
               "-numa node,memdev=b", memory=512)
    assert found.machine.memory == "512,slots=2,maxmem=16384M"
    words = " ".join(found.machine.words)
    assert "memory-backend-file,id=a,size=384M,share=on,mem-path=/cell" in words
    assert "memory-backend-memfd,id=b,size=128M" in words
    assert "hugepages" not in words
    assert "its part of the memory" in became(found, "-object memory-backend-memfd")


def test_memory_of_a_device_is_not_the_guests() -> None:
    """That of an ivshmem is a BAR, as large as it is."""
    found = of("-nodefaults -M q35 -m 4G -object memory-backend-file,id=shm,size=33554432,"
               "mem-path=/dev/shm/x,share=on -device ivshmem-plain,memdev=shm")
    assert str(found.machine.memory) == "1024"
    assert "id=shm,size=33554432,share=on" in " ".join(found.machine.words)


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
    assert "-device VGA" in " ".join(of("-M q35 -device bochs-display").machine.words)
    assert "-device VGA" not in " ".join(of("-M q35 -device ati-vga").machine.words)


def test_what_is_said_more_than_once_is_there_as_often() -> None:
    text = ("-M q35 -nodefaults -smp 8 -numa node,cpus=0-1,cpus=4-5 -numa node,cpus=2-3,cpus=6-7 "
            "-smbios type=11,value=first,value=second")
    found = of(text)
    assert found.machine.words == tuple(text.split()[5:])
    assert {line.kind for line in found.lines} == {RETAINED, REPLACED, ADDED}


@pytest.mark.parametrize(("given", "smp", "memory"), [
    ("-m 512 -m slots=4,maxmem=4G", 1, "512,slots=4,maxmem=4096M"),
    ("-smp 4 -smp maxcpus=8", "4,maxcpus=8", 128), ("-smp 4 -smp 2", 2, 128),
    ("-smp 4,cpus=3", 3, 128), ("-M x,smp.cpus=4,smp.cores=2", "4,cores=2", 128),
    ("-smp 0x4 -m 512", 4, 512), ("-m 0.5G", 1, 512), ("-m 1.5G", 1, 1024),
    ("-m 131073k", 1, 128), ("-M x,memory.size=256M,memory.max-size=1G -m slots=2", 1,
                             "256,slots=2,maxmem=1024M"),
])
def test_what_qemu_takes_together(given: str, smp: int | str, memory: int | str) -> None:
    found = of(f"-nodefaults {given}")
    assert (found.machine.smp, found.machine.memory) == (smp, memory)
    assert "smp." not in found.machine.machine
    assert "memory." not in found.machine.machine


@pytest.mark.parametrize("given", [
    "-smp `nproc`", "-m $1", "-m ${MEM:-2048}", "-smp $2", "-m 1.5", "-m 512MB", "-m 0x200", "-m x",
    "-smp " + "9" * 5000, "-m 99999999T", "-smp -1", "-numa node,mem=much",
    "-drive file=a,if=ide,index=x",
    "-object memory-backend-ram,id=a,size=$S", '-device {"driver":"e1000","x":' + '{"a":' * 700
    + "1" + "}" * 701,
], ids=lambda given: given[:30])
def test_what_cannot_be_read_is_left_out_once_and_never_kept(given: str) -> None:
    found = of(f"-M pc-q35-7.2 -nodefaults {given}")
    (line,) = (line for line in found.lines if line.given == given)
    assert line.kind == LEFT_OUT
    assert any(why in line.why for why in ("cannot be read", "variable", "command"))
    assert (found.machine.smp, found.machine.memory, found.machine.words) == (1, 128, ())


def test_a_part_that_cannot_be_read_is_told_beside_what_can() -> None:
    assert became(of("-nodefaults -smp 4,new=2"), "-smp") == (
        "replaced: -smp 4,new=2 -> -smp 4 (new=2 cannot be read)")
    assert "131073k -> -m 128M (in whole MiB)" in became(of("-m 131073k"), "-m ")


def test_what_qemu_takes_once_is_what_is_said_last() -> None:
    found = of("-nodefaults -M pc-q35-7.2,smm=on -M q35,smm=off -cpu a -cpu b -vga std -vga cirrus")
    assert found.machine.machine == "newest-common:pc-q35,smm=off"
    assert (found.machine.cpu, found.machine.words) == ("b", ("-device", "cirrus-vga"))
    for earlier in ("-machine pc-q35-7.2", "-machine smm=on", "-cpu a", "-vga std"):
        assert "left out" in became(found, earlier)


def test_a_property_of_a_cpu_that_is_no_plain_word_is_a_global() -> None:
    found = translate("kvm", ["-nodefaults", "-cpu", "host,hv-vendor-id=KVM Hv,pmu"])
    assert found.machine.cpu == "max,pmu=on"
    assert found.machine.words == (
        "-global", "driver=max-x86_64-cpu,property=hv-vendor-id,value=KVM Hv")


def test_a_queue_that_only_the_hosts_network_can_have_is_not_kept() -> None:
    found = of("-M q35 -nodefaults -device virtio-net-pci,tx_queue_size=512,rx_queue_size=1024 "
               "-device virtio-net-pci,tx_queue_size=256")
    assert found.machine.words == ("-device", "virtio-net-pci,rx_queue_size=1024",
                                   "-device", "virtio-net-pci,tx_queue_size=256")
    assert "vhost-user" in became(found, "-device virtio-net-pci,tx_queue_size=512")


def test_json_with_lists_is_the_same_device_with_our_disk() -> None:
    text = ('{"driver":"virtio-blk-pci","drive":"d","iothread-vq-mapping":[{"iothread":"io0"}],'
            '"bootindex":2}')
    found = of(f"-M q35 -nodefaults -object iothread,id=io0 -device {text}")
    assert found.machine.words[-1] == text.replace('"d"', '"disk"').replace(":2", ":0")
    assert found.machine.has_disk


@pytest.mark.parametrize("given", ["-device", "-device {", "-object x", "-smp x", "-m x", "-numa",
                                   "-M ,", "-drive file=/x,index=99999999999", "-machine"])
def test_nonsense_is_no_traceback(given: str) -> None:
    translate("qemu-system-x86_64", given.split())


def test_programs() -> None:
    assert of("-M virt-7.2", "/usr/bin/qemu-system-aarch64").machine.arch is Arch.AARCH64
    assert of("", "qemu-kvm").machine.arch is Arch.X86_64
    with pytest.raises(ValueError, match="emulates hppa"):
        of("", "qemu-system-hppa")


def test_shared_memory_is_as_large_as_its_files_can_be() -> None:
    text = "-nodefaults -M q35,memory-backend=a -m 8G -object memory-backend-memfd,id=a,size=8G"
    found = of(text)
    assert found.machine.memory == 256
    assert "size=256M" in " ".join(found.machine.words)
    with pytest.raises(ValueError, match=r"512 MiB .* hold, 256 MiB: .*file: MIB"):
        of(text, memory=512)
    assert of(text, memory=512, file_mib=512).machine.memory == 512


def test_snapshots_are_told_of() -> None:
    found = of("-M q35 -nodefaults -snapshot -loadvm s -drive file=a,if=none,id=d,snapshot=on "
               "-device virtio-blk-pci,drive=d")
    assert "is thrown away anyway" in became(found, "-snapshot")
    assert "in a disk of the host's" in became(found, "-loadvm")
    assert "is thrown away anyway" in became(found, "-drive")


def test_a_tpm_is_left_out_with_all_that_it_has() -> None:
    found = of("-M q35 -nodefaults -chardev socket,id=c,path=/run/tpm -tpmdev emulator,id=t,"
               "chardev=c -device tpm-tis,tpmdev=t")
    for given, why in (("-chardev", "nothing that is kept has it"), ("-tpmdev", "axis tpm"),
                       ("-device", "axis tpm")):
        assert why in became(found, given)
    assert "tpm" not in " ".join(found.machine.words)


def test_a_32_bit_qemu_is_another_program_here() -> None:
    found = of("-nodefaults -M pc", program="qemu-system-i386")
    assert "qemu-system-x86_64" in became(found, "qemu-system-i386")


@pytest.mark.parametrize(("given", "machine", "left_out"), [
    ("-M pc-i440fx-7.2 -no-hpet -machine hpet=on", "pc-i440fx-7.2,hpet=on", "-no-hpet"),
    ("-M pc-q35-7.2,usb=off -usb", "pc-q35-7.2,usb=on", "-machine usb=off"),
    ("-no-acpi -machine pc-q35-7.2,acpi=on", "pc-q35-7.2,acpi=on", "-no-acpi"),
], ids=["hpet", "usb", "acpi"])
def test_of_a_machine_s_property_the_option_that_is_last_counts(
    given: str, machine: str, left_out: str
) -> None:
    found = of(f"-nodefaults {given}")
    assert found.machine.machine == machine
    assert became(found, left_out) == f"left out: {left_out} (QEMU takes what is said later)"


def test_what_qemu_has_by_itself_and_is_not_carried_over_is_told() -> None:
    def told(text: str) -> set[str]:
        return {line.given for line in of(text).lines if line.kind == LEFT_OUT}

    cd, floppy, port = "an empty CD-ROM drive", "an empty floppy drive", "a parallel port"
    assert told("-m 64") == {cd, floppy, port}
    assert told("-M q35 -m 64") == {cd, port}
    assert told("-m 64 -nodefaults") == told("-M microvm -m 64") == set()
    assert told("-m 64 -cdrom x") == {floppy, port}
    assert told("-m 64 -device scsi-hd") == {floppy, port}
    assert {cd, floppy} & told("-m 64 -fda x -parallel none -drive if=ide,index=2") == set()


@pytest.mark.parametrize(("given", "why"), [
    ("$CPUS", "variable"), ("${CPUS:-2}", "variable"), ("`nproc`", "command"),
    ("$(nproc)", "command"),
])
def test_the_reason_is_that_of_what_a_shell_would_fill_in(given: str, why: str) -> None:
    assert f"a shell's {why}" in became(of(f"-smp {given}"), "-smp")
