"""Somebody's machine, as QEMU was given it, to one that runs anywhere: what is kept, what is
replaced by something local, and what is left out, line by line.

docs/own-vm.md lists the rules. Pure: no path in a command line is ever opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bootmatrix import arguments
from bootmatrix.arguments import NO_VALUE
from bootmatrix.model import Arch, OwnMachine
from bootmatrix.vm import keyval
from bootmatrix.vm.keyval import Keys
from bootmatrix.vm.libvirt import UNKNOWN
from bootmatrix.vm.words import COMMENT, options

RETAINED, REPLACED, LEFT_OUT, ADDED = "kept", "replaced", "left out", "added"
KINDS = (RETAINED, REPLACED, LEFT_OUT, ADDED)
MOST_MIB = 1024
"""MiB that a machine keeps unless it is told otherwise: TCG touches what it migrates."""
WRITABLE = "/cell"
"""Where a QEMU's sandbox can write files, which bootmatrix.engines.confinement says, too."""
LARGEST_FILE_MIB = 256
"""Of a sandbox, by default: bootmatrix.files.cell_files.LIMIT."""
DISK, CONSOLE = "disk", "console"
"""What the harness calls the guest's disk and its console's chardev."""
_OURS = frozenset((DISK, CONSOLE, "monitor", "firmware", "base", "base-file", "flash0", "flash1"))
_EMPTY_BYTES = 1 << 30
_RAM_STEP = 2  # MiB: a page of a large backend
_LEAST_MIB = 64

_HOST_DEVICES = {
    "vfio-": "a device of the host's", "pci-assign": "a device of the host's",
    "usb-host": "a device of the host's", "usb-redir": "a device behind SPICE",
    "vhost-": "its other end is a process or the kernel of the host",
    "virtio-9p": "a directory of the host's", "vhost-user": "its other end is a process",
    "tpm-": "the axis tpm gives a guest one, with a state of its own",
    "ccid-card-passthru": "a card of the host's",
    "smartcard": "a card of the host's", "isa-debugcon": "the harness has its own at that port",
    "virtio-input-host": "a device of the host's", "sgx-epc": "memory of the host's processor",
    "xen-": "Xen is not there",
}  # fmt: skip
_GL = {"virtio-gpu-gl-pci": "virtio-gpu-pci", "virtio-vga-gl": "virtio-vga",
       "virtio-gpu-gl-device": "virtio-gpu-device", "virtio-gpu-rutabaga-pci": "virtio-gpu-pci"}
_VGA = {"std": "VGA", "cirrus": "cirrus-vga", "virtio": "virtio-vga", "qxl": "qxl-vga",
        "vmware": "vmware-svga"}
# QEMU has its own VGA where none of these is given: its list, system/vl.c.
_INSTEAD_OF_VGA = frozenset((*_VGA.values(), "isa-vga", "isa-cirrus-vga", "ati-vga",
                             "vhost-user-vga"))
_HARD_DISKS = re.compile(
    r"(?:virtio-blk(?:-pci|-device)?(?:-(?:non-)?transitional)?|scsi-hd|scsi-disk|scsi-block|"
    r"scsi-generic|ide-hd|ide-drive|nvme|nvme-ns|usb-storage|sd-card)")
_CDS = re.compile(r"(?:ide|scsi)-cd")
_DIMM = re.compile(r"(?:pc-dimm|nvdimm|virtio-mem|virtio-pmem)\b")
_OBJECTS = re.compile(r"(?:rng-(?:builtin|random)|memory-backend-(?:ram|file|memfd)|iothread|"
                      r"throttle-group|main-loop|acpi-generic-initiator)")
_TX_QUEUE = 256  # the longest of a card whose other end is QEMU's own network
_HOSTS_MEMORY = ("host-nodes", "policy", "prealloc", "hugetlb", "mem-path", "discard-data",
                 "align", "pmem", "merge", "dump", "seal", "readonly", "rom", "offset",
                 "x-use-canonical")
# Options that are another's business here, and why.
_LEFT_OUT = {
    **dict.fromkeys(("spice", "vnc", "display", "sdl", "gtk", "curses", "k", "full-screen",
                     "nographic", "show-cursor", "portrait", "rotate", "no-frame", "alt-grab",
                     "ctrl-grab", "no-quit", "ui"),
                    "a display of the host's: the serial console is read"),
    **dict.fromkeys(("monitor", "qmp", "qmp-pretty", "mon"), "the monitor is the harness's"),
    **dict.fromkeys(("name", "pidfile", "daemonize", "runas", "run-with", "chroot", "sandbox",
                     "msg", "D", "d", "trace", "debugcon", "nodefconfig", "writeconfig", "seed",
                     "async-teardown", "only-migratable", "perfmap", "jitdump", "audio-help"),
                    "the process is the harness's"),
    "loadvm": "the state is in a disk of the host's",
    "snapshot": "what is written to a disk is thrown away anyway",
    **dict.fromkeys(("S", "incoming", "no-reboot", "no-shutdown", "action",
                     "preconfig", "gdb", "s", "qtest"), "the scenario says what is done"),
    **dict.fromkeys(("kernel", "initrd", "append", "dtb", "shim"),
                    "the guest boots from its disk, or by guest: linux-kernel"),
    **dict.fromkeys(("enable-kvm", "accel", "no-kvm", "no-kvm-irqchip", "no-kvm-pit",
                     "no-kvm-pit-reinjection", "kvm-shadow-memory", "xen-domid", "xen-attach",
                     "xen-create", "enable-hax"),
                    "the axis accel says it"),
    **dict.fromkeys(("mem-path", "mem-prealloc", "overcommit", "realtime", "balloon-size",
                     "tb-size"),
                    "where the host takes its memory from"),
    **dict.fromkeys(("fsdev", "virtfs", "virtfs_synth"), "a directory of the host's"),
    **dict.fromkeys(("readconfig", "acpitable", "plugin", "L", "mtdblock", "sd"),
                    "a file of the host's"),
    **dict.fromkeys(("tpmdev",), "the axis tpm gives a guest one, with a state of its own"),
    **dict.fromkeys(("icount", "singlestep", "cpu-throttle"),
                    "how QEMU's time goes is the harness's"),
    **dict.fromkeys(("semihosting", "semihosting-config"), "it gives the host's files away"),
    **dict.fromkeys(("soundhw",), "no QEMU since 7.1 has it"),
    **dict.fromkeys(("usbdevice-host", "pcspk-audiodev", "rtc-td-hack", "no-fd-bootchk",
                     "win2k-hack", "tdf", "old-param"), "QEMU 11.1 does not have it"),
}  # fmt: skip
# Kept as they are: they say what the guest sees, and name nothing of the host's.
_GIVEN_ANYWAY = ("nodefaults", "no-user-config")
_AS_IT_IS = frozenset(("global", "uuid", "numa", "watchdog-action", "prom-env", "g"))
_GROUPS = {"smp": ("smp", "cpus"), "memory": ("m", "size")}
_SAME_KEY = {"max-size": "maxmem"}  # as a machine has it
_NUMBERS = {"smp": ("cpus", "maxcpus", "drawers", "books", "sockets", "dies", "clusters",
                    "modules", "cores", "threads"),
            "memory": ("slots",)}
_MOST_NUMBER = 65536  # of CPUs and slots: no machine type has more
_SIZES = frozenset((("numa", "mem"), ("object", "size"), ("object", "align")))
_NUMBERED = frozenset(("drive", key) for key in ("index", "bus", "unit"))
# Of these the last counts, and the others are as if they had not been said.
_ONCE = frozenset(("cpu", "vga", "uuid", "watchdog-action", "g", "balloon"))
_AS_MACHINE = {"usb": "usb", "no-acpi": "acpi", "no-hpet": "hpet"}
"""Options that are a property of the machine, and which."""
_OF_EVERY_QEMU = "the same, as every QEMU has it"
_LATER = "QEMU takes what is said later"
_OF_THE_SHELL = {COMMENT: "a comment, or another command: the last QEMU counts",
                 UNKNOWN: "not known here"}
_SHELL = re.compile(r"\$[({A-Za-z0-9_@*#?!$-]|`")
_VARIABLE = re.compile(r"\$(?:\{|[A-Za-z0-9_@*#?!$-])")
_COMMAND = re.compile(r"`|\$\(")
_NO_CDROM = frozenset(("ide-cd", "ide-hd", "scsi-cd", "scsi-hd"))
"""Devices by whose sight QEMU makes no CD-ROM drive of its own."""
_NO_ORDER = 1 << 20
_NO_CHANGE = ("dies", "clusters", "modules", "books", "drawers")
_SAFE = re.compile(r"[A-Za-z0-9._:+-]*")
_CPU_PROPERTY = re.compile(r"[+-]?[A-Za-z0-9][A-Za-z0-9._-]*(=[A-Za-z0-9._:+-]*)?")
_VERSIONED = re.compile(r"(pc-q35|pc-i440fx|virt)-(\d+(?:\.\d+)*)")
_DISTRIBUTION = re.compile(r"(pc-q35|pc-i440fx|virt|pc|q35)-[a-z][A-Za-z0-9.+-]*")
# Proxmox VE's, behind the name of QEMU's own.
_PVE = re.compile(r"((?:pc-q35|pc-i440fx|virt)-\d+(?:\.\d+)*|pc|q35|virt)\+pve\d+")

# The machine that a QEMU takes without -M, and, where that is of no use, what is meant.
_USUAL = {
    Arch.X86_64: "pc", Arch.AARCH64: "virt", Arch.RISCV64: "virt", Arch.PPC64: "pseries",
    Arch.SPARC64: "sun4u", Arch.LOONGARCH64: "virt", Arch.S390X: "s390-ccw-virtio",
}  # fmt: skip


@dataclass(frozen=True)
class ArgumentLine:
    """What became of one argument: ``given`` as it stood there, ``now`` what there is instead."""

    kind: str
    given: str
    now: str = ""
    why: str = ""

    def __str__(self) -> str:
        arrow = f" -> {self.now}" if self.now and self.now != self.given else ""
        return f"{self.kind}: {self.given}{arrow}" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True)
class Translated:
    """A machine that runs here, and what became of each argument of the one that was given."""

    machine: OwnMachine
    lines: tuple[ArgumentLine, ...]


def translate(
    program: str, words: Sequence[str], *, memory: int | None = None, network: bool = True,
    file_mib: int = LARGEST_FILE_MIB,
) -> Translated:
    """A machine of QEMU's command line.

    ``memory`` is how many MiB it is to have; ``network``: its cards have user-mode networking,
    which is cut off from everything; ``file_mib`` are those of the largest file. Raises
    ValueError for what is no machine of a known kind.
    """
    return _Translation(program, words, memory, network, file_mib).done()


@dataclass
class _Disk:
    """A hard disk: the places of its device among the words and the lines, and its boot index."""

    place: int
    line: int
    order: int


@dataclass
class _Translation:
    program: str
    words: Sequence[str]
    memory: int | None
    network: bool
    file_mib: int
    lines: list[ArgumentLine] = field(default_factory=list)
    out: list[tuple[str, Keys | str]] = field(default_factory=list)

    # -- the whole of it -----------------------------------------------------------------------

    def done(self) -> Translated:
        every = options(self.words, NO_VALUE)
        unread = _unread(every)
        given = [pair for at, pair in enumerate(every) if at not in unread]
        self.arch = _arch(self.program)
        if "i386" in self.program.rpartition("/")[2]:
            self._add(REPLACED, "", "qemu-system-i386", "qemu-system-x86_64",
                      "where no -cpu is given, a 64-bit one is what it takes")
        self.machine_type = ""
        self.machine_options: dict[str, str] = {}
        self.cpu = ""
        self.uefi = False
        self.disks: list[_Disk] = []
        self.console: int | None = None
        self.serials = 0
        self.cards = 0
        self.blocks = self._blocks(given)
        self.firmware = self._firmware_nodes(given)
        self.objects_left: set[str] = set()
        self.defaults = not any(name == "nodefaults" for name, _ in given)
        self.statements = _Statements(given)
        self.memory_said: list[tuple[str, Keys]] = []
        smp = self.statements.text("smp")
        self.smp: int | str = int(smp) if smp.isdecimal() else smp or 1
        self.said_last = _said_last(given)
        self._machine_of([v for n, v in given if n in ("machine", "M")])
        self.devices_memory = self._devices_memory(given)
        most = self.file_mib * self._shared(given) or MOST_MIB
        self.old_mib, self.mib, self.memory_rest = self._memory_of(given, min(most, MOST_MIB))
        self.base_ram = self._base_ram(given)
        if self.mib > most and self._shared(given):
            raise ValueError(
                f"{self.mib} MiB of memory are more than this machine's files in a sandbox can "
                f"hold, {most} MiB: limits: {{file: MIB}} raises the {self.file_mib} of each")
        for at, (name, value) in enumerate(every):
            if at in unread:
                self._add(LEFT_OUT, "" if name in (COMMENT, UNKNOWN) else name, value,
                          why=unread[at])
            else:
                self._option(name, value)
        self._other_ends(given)
        self._default_devices(given)
        self._console_of_its_own()
        self._boot_disk()
        words = self._words()
        if (wrong := arguments.complaint(words)) is not None:
            raise ValueError(wrong)
        memory = f"{self.mib}{self.memory_rest}" if self.memory_rest else self.mib
        return Translated(OwnMachine(
            self.arch, self.machine_type + "".join(
                f",{key}={value}" for key, value in self.machine_options.items()),
            self.cpu, self.smp, memory, tuple(words), bool(self.disks), self.console is not None,
            self.uefi), tuple(self.lines))

    def _words(self) -> list[str]:
        words: list[str] = []
        used = self._chardevs() - {CONSOLE}
        for id_ in sorted(used):
            words += ["-chardev", f"null,id={id_}"]
        for name, value in self.out:
            first = {"device": "driver", "object": "qom-type", "netdev": "type"}.get(name, "")
            words += [f"-{name}", value if isinstance(value, str) else keyval.write(value, first)]
        return words

    def _chardevs(self) -> set[str]:
        return {keys["chardev"] for _, keys in self.out
                if isinstance(keys, Keys) and "chardev" in keys}

    def _add(self, kind: str, name: str, value: str, now: str = "", why: str = "") -> None:
        given = f"-{name} {value}".rstrip() if name else value
        self.lines.append(ArgumentLine(kind, given, now, why))

    # -- machine, CPU, memory ------------------------------------------------------------------

    def _machine_of(self, every: Sequence[str]) -> None:
        stated = [pair for value in every for pair in keyval.read(value, "type").items()]
        last = dict(stated)
        counts = {key: at for at, (key, _) in enumerate(stated)}
        kind = last.get("type", "") or _USUAL[self.arch]
        if pve := _PVE.fullmatch(kind):
            self._add(REPLACED, "machine", kind, pve[1], "QEMU's own type of that name")
            kind = pve[1]
        family = {"pc": "pc-i440fx", "q35": "pc-q35"}.get(kind, kind)
        board = re.sub(r"-\d+(\.\d+)*$", "", family)
        match = None if _VERSIONED.fullmatch(family) else _DISTRIBUTION.fullmatch(family)
        if match is not None:
            known = {"pc": "pc-i440fx", "q35": "pc-q35"}.get(match[1], match[1])
            if family not in ("pc-i440fx", "pc-q35"):
                self._add(REPLACED, "machine", kind, f"newest-common:{known}",
                          "a distribution's own type, which QEMU does not have")
                family = board = known
        if family in ("pc-i440fx", "pc-q35") or (family == "virt" and self.arch is Arch.AARCH64):
            now = f"newest-common:{family}"
            if kind in ("pc", "q35", "virt"):
                self._add(REPLACED, "machine", kind, now,
                          "without a version each QEMU takes its own newest, and none migrates")
            self.machine_type = now
        else:
            self.machine_type = family
            self._add(RETAINED, "machine", kind)
        self.q35 = board == "pc-q35"
        self.pc = board in ("pc-q35", "pc-i440fx")
        self.microvm = board == "microvm"
        for at, (key, value) in enumerate(stated):
            text = f"{key}={value}" if key != "type" else value
            group, dot, part = key.partition(".")
            if counts[key] != at or self.said_last[key] in _AS_MACHINE:
                self._add(LEFT_OUT, "machine", text, why=_LATER)
            elif key == "type":
                pass  # said above
            elif dot and group == "memory":  # told of with -m
                self.memory_said.append((f"-machine {text}", Keys([(part, value)])))
            elif dot and group == "smp":
                self._said(group, f"-machine {text}", Keys([(part, value)]),
                           f"-smp {self.statements.text(group)}", _OF_EVERY_QEMU)
            elif dot and group == "boot":
                self.out.append(("boot", f"{part}={value.replace(',', ',,')}"))
                self._add(REPLACED, "machine", text, f"-boot {part}={value}",
                          _OF_EVERY_QEMU)
            elif key.startswith("pflash") or key == "firmware":
                self.uefi = self.uefi or key == "pflash0"
                self._add(REPLACED, "machine", text, "the host's firmware",
                          "the firmware is what is tested")
            elif key in ("accel", "kernel_irqchip", "kernel-irqchip", "kvm-type", "kvm_shadow_mem",
                         "confidential-guest-support", "memory-encryption", "mem-merge",
                         "dump-guest-core", "enforce-config-section", "graphics"):
                self._add(LEFT_OUT, "machine", text, why=(
                    "the axis accel says it" if key == "accel" else
                    "the console that is read says it" if key == "graphics" else
                    "the host's, nothing that the guest sees"))
            elif not _SAFE.fullmatch(value) or not _SAFE.fullmatch(key):
                self._add(LEFT_OUT, "machine", text, why="no plain word")
            else:
                self.machine_options[key] = value
                self._add(RETAINED, "machine", text)

    def _devices_memory(self, given: Sequence[tuple[str, str]]) -> frozenset[str]:
        """The backends that are no memory of the guest's, but what a device shows: ivshmem's."""
        devices = [keyval.read(value, "driver") for name, value in given if name == "device"]
        return frozenset(keys["memdev"] for keys in devices if "memdev" in keys
                         and not _DIMM.match(keys.get("driver", "")))

    def _shared(self, given: Sequence[tuple[str, str]]) -> int:
        """How many memory backends are in files: in memory, or shared with whom is on the host."""
        backends = [keyval.read(value, "qom-type") for name, value in given if name == "object"]
        backends = [keys for keys in backends if keys.get("id") not in self.devices_memory]
        return sum(kind == "memory-backend-memfd" or (
            kind == "memory-backend-file" and keys.get("share") == "on")
            for keys in backends if (kind := keys.get("qom-type", "")))

    def _memory_of(
        self, given: Sequence[tuple[str, str]], most: int
    ) -> tuple[int, int, str]:
        """What it had, what it has now, in MiB, and what -m says beside that."""
        keys = self.statements.of("memory")
        size = arguments.size(keys.get("size", "0"), 1 << 20) or 128 << 20  # 0 is none said
        old = size >> 20
        new = self.memory or min(max(old, 1), most)
        rest = f",slots={arguments.number(keys['slots'])}" if "slots" in keys else ""
        if "maxmem" in keys:
            rest += f",maxmem={max((arguments.size(keys['maxmem']) or 0) >> 20, new)}M"
        now = f"-m {new}M{rest}"
        why = ""
        if new << 20 != size:
            why = ("as memory: says" if self.memory is not None else
                   "in whole MiB" if old <= most else
                   "more than a guest of ours needs; memory: MIB is another size")
        for value in (value for name, value in given if name == "m"):
            self._said("memory", f"-m {value}", keyval.read(value, "size"), now, why)
        for text, said in self.memory_said:
            self._said("memory", text, said, now, why or _OF_EVERY_QEMU)
        return max(old, 1), new, rest

    def _said(self, group: str, given: str, keys: Keys, now: str, why: str = "") -> None:
        """What became of a part of what QEMU takes together, such as one of two -m."""
        wrong, later = self.statements.not_taken(group, keys)
        whole = self.statements.of(group)
        reasons = [why] if why else []
        if wrong:
            reasons.append(f"{', '.join(wrong)} cannot be read")
        if later:
            reasons.append(f"{', '.join(later)}: {_LATER}")
        if len(wrong) + len(later) == len(list(keys.items())):
            self.lines.append(ArgumentLine(LEFT_OUT, given, why="; ".join(reasons)))
        elif not reasons and all(key in keys for key, _ in whole.items()):
            self.lines.append(ArgumentLine(RETAINED, given))
        else:
            self.lines.append(ArgumentLine(REPLACED, given, now, "; ".join(
                reasons or ["together with what else says it, as QEMU takes it"])))

    def _base_ram(self, given: Sequence[tuple[str, str]]) -> dict[str, int]:
        """The backends of the machine's own memory, with the MiB that each has now."""
        numa = [keyval.read(value, "type") for name, value in given if name == "numa"]
        named = [keys["memdev"] for keys in numa if keys.get("memdev")]
        if backend := self.machine_options.get("memory-backend"):
            named.append(backend)
        sizes = {}
        for name, value in given:
            if name == "object" and (
                    keys := keyval.read(value, "qom-type")).get("id") in named:
                sizes[keys["id"]] = (arguments.size(keys.get("size", "")) or 0) >> 20
        total = sum(sizes.values())
        if not total:
            return {}
        now = {id_: size * self.mib // total // _RAM_STEP * _RAM_STEP
               for id_, size in sizes.items()}
        if now:
            now[list(now)[-1]] += self.mib - sum(now.values())
        return now

    # -- option by option -------------------------------------------------------------------------

    def _option(self, name: str, value: str) -> None:
        if name in ("machine", "M", "m", "chardev", "blockdev"):
            return  # read before
        if name in _GIVEN_ANYWAY:
            self._add(RETAINED, name, value)
        elif name in _LEFT_OUT:
            self._add(LEFT_OUT, name, value, why=_LEFT_OUT[name])
        elif (deed := self._deeds.get(name)) is not None:
            deed(self, name, value)
        elif name in _AS_IT_IS:
            self._keep(name, value)
        else:
            self._add(LEFT_OUT, name, value, why="not known here")

    def _other_ends(self, given: Sequence[tuple[str, str]]) -> None:
        """What became of chardevs and block nodes, which are told of once their users are known."""
        used = self._chardevs()
        for name, value in given:
            if name == "chardev":
                id_ = keyval.read(value, "backend").get("id", "")
                if f"vm-{id_}" in used or id_ in used:
                    self._add(REPLACED, name, value, f"-chardev null,id={id_}",
                              "its other end is the host's")
                elif id_ == self.console_given:
                    self._add(REPLACED, name, value, "the console that is read")
                else:
                    self._add(LEFT_OUT, name, value, why="nothing that is kept has it")
            elif name == "blockdev" and (
                    keyval.read(value, "driver").get("node-name") in self.firmware):
                self._add(REPLACED, name, value, "the host's firmware",
                          "the firmware is what is tested")
            elif name == "blockdev" or (name == "drive" and
                                        keyval.read(value, "file").get("if") == "none"):
                self._add(REPLACED, name, value, "the disk of its device, if that is kept",
                          f"a file of the host's{self._thrown_away(value)}")

    def _thrown_away(self, value: str) -> str:
        """What is said of a disk that its owner has thrown away, too."""
        asked = keyval.read(value, "file").get("snapshot") == "on"
        return "; what is written to it is thrown away anyway" if asked else ""

    console_given = ""

    def _keep(self, name: str, value: str) -> None:
        self.out.append((name, value))
        self._add(RETAINED, name, value)

    def _global(self, name: str, value: str) -> None:
        keys = keyval.read(value, "")
        driver = keys.get("driver") or value.partition(".")[0]
        if "pflash" in driver:
            self._add(LEFT_OUT, name, value, why="the firmware is what is tested")
        else:
            self._keep(name, value)

    def _set(self, name: str, value: str) -> None:
        group, _, rest = value.partition(".")
        id_ = rest.partition(".")[0]
        given = [keyval.read(text) if isinstance(text, str) else text
                 for option, text in self.out if option == group]
        if any(keys.get("id") == id_ for keys in given):
            self._keep(name, value)
        else:
            self._add(LEFT_OUT, name, value, why=f"no {group} of that id is kept before it")

    def _cpu_of(self, name: str, value: str) -> None:
        model, *properties = (part.replace("\0", ",")
                              for part in value.replace(",,", "\0").split(","))
        now = model if model not in ("host", "host-passthrough") else "max"
        reasons = ["the host's own processor is KVM's alone"] * (now != model)
        retained: list[str] = []
        dropped: list[str] = []
        for part in properties:
            key, equals, text = part.partition("=")
            if key.startswith("host-cache") or (now != model and key.startswith("migratable")):
                dropped.append(part)
            elif _CPU_PROPERTY.fullmatch(part):
                retained.append(part if part[:1] in "+-" or equals else f"{part}=on")
            elif equals and _SAFE.fullmatch(key) and self.arch is Arch.X86_64:
                # The same to QEMU, which makes one of it; a matrix has plain words alone there.
                self.out.append(("global", keyval.write(Keys((
                    ("driver", f"{now}-x86_64-cpu"), ("property", key), ("value", text))))))
                reasons.append(f"{part} is a -global: no plain word")
            else:
                dropped.append(part)
        self.cpu = ",".join([now, *retained])
        if dropped:
            reasons.append("left out: " + ", ".join(dropped))
        if reasons:
            self._add(REPLACED, name, value, f"-cpu {self.cpu}", "; ".join(reasons))
        else:
            self._add(RETAINED, name, value)

    def _smp_of(self, name: str, value: str) -> None:
        text = self.statements.text("smp")
        was = keyval.read(value, "cpus")
        quiet = ("=1 says nothing, and old QEMUs do not know it"
                 if any(key in _NO_CHANGE and text_ == "1" for key, text_ in was.items()) else "")
        self._said("smp", f"-smp {value}", was, f"-smp {text}", quiet)

    def _object(self, name: str, value: str) -> None:
        keys = keyval.read(value, "qom-type")
        kind, id_ = keys.get("qom-type", ""), keys.get("id", "")
        if not _OBJECTS.fullmatch(kind):
            self.objects_left.add(id_)
            self._add(LEFT_OUT, name, value, why="a secret, or a part of the host")
            return
        was, why = keys.copy(), []
        if kind == "rng-random" and keys.get("filename") not in ("/dev/random", "/dev/urandom", ""):
            keys = Keys((("qom-type", "rng-builtin"), ("id", id_)))
            why.append("a file of the host's")
        if kind.startswith("memory-backend-"):
            keys, why = self._backend(keys)
        self.out.append((name, keys))
        if keys == was:
            self._add(RETAINED, name, value)
        else:
            self._add(REPLACED, name, value, "-object " + keyval.write(keys, "qom-type"),
                      ", ".join(why))

    def _backend(self, keys: Keys) -> tuple[Keys, list[str]]:
        kind, now, why = keys["qom-type"], keys.copy(), []
        host = [key for key in dict(now.items())
                if key.startswith(_HOSTS_MEMORY) and key != "x-use-canonical-path-for-ramblock-id"]
        if host:
            now = Keys(now.without(*host).items())  # no list is left
            why.append("where the host takes its memory from: " + ", ".join(host))
        if kind == "memory-backend-file":
            shared = now.get("share") == "on"
            now["qom-type"] = kind if shared else "memory-backend-ram"
            if shared:  # an unnamed file there
                now["mem-path"] = WRITABLE
            why.append("its file is the host's")
        size = arguments.size(keys.get("size", "")) or 0
        mib = None if keys.get("id") in self.devices_memory else self.base_ram.get(
            keys.get("id", "")) or (
            size >> 20 if self.mib == self.old_mib else
            max(_LEAST_MIB, (size >> 20) * self.mib // self.old_mib // _LEAST_MIB * _LEAST_MIB))
        if mib and mib << 20 != size:
            now["size"] = f"{mib}M"
            why.append("its part of the memory")
        return now, why

    def _numa(self, name: str, value: str) -> None:
        keys = keyval.read(value, "type")
        mem = arguments.size(keys.get("mem"), 1 << 20)
        if mem and self.mib != self.old_mib:
            keys["mem"] = f"{(mem >> 20) * self.mib // self.old_mib}M"
            self.out.append((name, keyval.write(keys, "type")))
            self._add(REPLACED, name, value, "-numa " + keyval.write(keys, "type"),
                      "its part of the memory")
        else:
            self.out.append((name, keyval.write(keys, "type")))
            self._add(RETAINED, name, value)

    def _netdev(self, name: str, value: str) -> None:
        keys = keyval.read(value, "type")
        id_ = keys.get("id", "")
        if not self.network or not id_:
            self._add(LEFT_OUT, name, value, why="network: none says so" if id_ else "no id")
            return
        if keys.get("type") == "hubport":
            self._add(LEFT_OUT, name, value, why="a hub of QEMU's own")
            return
        now = f"user,id={id_},restrict=on"
        self.out.append((name, now))
        self._add(REPLACED, name, value, f"-netdev {now}", "a network of the host's")

    def _nic(self, name: str, value: str) -> None:
        keys = keyval.read(value, "type")
        kind = keys.pop("type", "")
        if name == "net" and kind != "nic":
            self._add(LEFT_OUT, name, value, why="a network of the host's; the card has user,"
                      "restrict=on")
            return
        if kind == "none":
            self._add(RETAINED, name, value)
            return
        model = keys.get("model") or ("e1000" if self.pc and not self.q35 else
                                      "e1000e" if self.q35 else "virtio-net-pci")
        model = {"virtio": "virtio-net-pci"}.get(model, model)
        mac = keys.get("macaddr") or keys.get("mac") or ""
        own = [("mac", mac), ("addr", keys.get("addr")), ("vectors", keys.get("vectors"))]
        self._card(model, [pair for pair in own if pair[1]], REPLACED, f"-{name} {value}",
                   "the same card, with a network of its own")

    def _card(
        self, model: str, own: Sequence[tuple[str, str]], kind: str, given: str, why: str
    ) -> None:
        self.cards += 1
        device = Keys([("driver", model)])
        if self.network:
            device["netdev"] = f"vm-net{self.cards}"
            self.out.append(("netdev", f"user,id=vm-net{self.cards},restrict=on"))
        for key, value in own:
            device[key] = value
        self.out.append(("device", device))
        self.lines.append(ArgumentLine(
            kind, given, "-device " + keyval.write(device, "driver"), why))

    def _serial(self, name: str, value: str) -> None:
        self.serials += 1
        if name == "serial" and value == "none":
            self._add(LEFT_OUT, name, value, why="the serial console is what is read")
        elif self.serials == 1 and name == "serial":
            self._add(REPLACED, name, value, "the console that is read")
        else:
            self._add(LEFT_OUT, name, value, why="one serial port is read, and no other is there")

    def _vga(self, name: str, value: str) -> None:
        if value == "none":
            self._add(RETAINED, name, value, why="there is none unless it is given")
        elif value not in _VGA:
            self._add(LEFT_OUT, name, value, why="not known here")
        else:
            self.out.append(("device", Keys([("driver", _VGA[value])])))
            self._add(REPLACED, name, value, f"-device {_VGA[value]}", "the same, said as a device")
        self.vga = True

    vga = False

    def _boot(self, name: str, value: str) -> None:
        keys = keyval.read(value, "order")
        now = keys.without("splash")
        self._changed(name, value, keys, now, "order", "a file of the host's")

    def _changed(self, name: str, value: str, was: Keys, now: Keys, first: str, why: str) -> None:
        if not now:
            self._add(LEFT_OUT, name, value, why=why)
            return
        text = keyval.write(now, first)
        self.out.append((name, text))
        if was == now:
            self._add(RETAINED, name, value)
        else:
            self._add(REPLACED, name, value, f"-{name} {text}", why)

    def _smbios(self, name: str, value: str) -> None:
        keys = keyval.read(value, "")
        now = keys.without("file", "path")
        if "file" in keys:
            self._add(LEFT_OUT, name, value, why="a file of the host's")
        else:
            self._changed(name, value, keys, now, "", "a file of the host's")

    def _fw_cfg(self, name: str, value: str) -> None:
        keys = keyval.read(value, "name")
        if "file" in keys or "gen_id" in keys:
            self._add(LEFT_OUT, name, value, why="a file of the host's")
        elif keys.get("name", "").startswith("opt/bootmatrix/"):
            self._add(LEFT_OUT, name, value, why="the harness's own name")
        else:
            self._keep(name, keyval.write(keys, ""))
            self.lines[-1] = replace(self.lines[-1], given=f"-{name} {value}")

    def _rtc(self, name: str, value: str) -> None:
        keys = keyval.read(value, "")
        self._changed(name, value, keys, keys, "", "")

    def _audiodev(self, name: str, value: str) -> None:
        keys = keyval.read(value, "driver")
        now = f"none,id={keys.get('id', 'audio')}"
        self.out.append((name, now))
        self._add(RETAINED if value == now else REPLACED, name, value, f"-audiodev {now}",
                  "" if value == now else "sound of the host's")

    def _bios(self, name: str, value: str) -> None:
        self.uefi = self.uefi or "ovmf" in value.lower() or "edk2" in value.lower()
        self._add(REPLACED, name, value, "the host's firmware", "the firmware is what is tested")

    def _of_machine(self, name: str, value: str) -> None:
        key = _AS_MACHINE[name]
        if self.said_last[key] not in _AS_MACHINE:
            self._add(LEFT_OUT, name, value, why=_LATER)
            return
        self.machine_options[key] = now = "off" if name.startswith("no-") else "on"
        self._add(REPLACED, name, value, f"{key}={now} of the machine", "the same" + (
            "; QEMU since 9.0 has it no other way" if now == "off" else ""))

    def _usbdevice(self, name: str, value: str) -> None:
        known = {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd"}
        if value not in known:
            self._add(LEFT_OUT, name, value, why="a device of the host's")
            return
        self.machine_options.setdefault("usb", "on")
        self.out.append(("device", Keys([("driver", known[value])])))
        self._add(REPLACED, name, value, f"-device {known[value]}", "the same, said as a device")

    def _as_device(self, name: str, value: str) -> None:
        keys = keyval.read(value, "driver")
        if name == "balloon":
            keys["driver"] = "virtio-balloon-pci" if keys.get("driver") == "virtio" else "none"
        if keys.get("driver", "none") == "none":
            self._add(LEFT_OUT, name, value, why="none")
            return
        self.out.append(("device", keys))
        self._add(REPLACED, name, value, "-device " + keyval.write(keys, "driver"),
                  "the same, said as a device")

    def _localtime(self, name: str, value: str) -> None:
        self.out.append(("rtc", "base=localtime"))
        self._add(REPLACED, name, value, "-rtc base=localtime", "the same, as QEMU has it now")

    # -- disks ------------------------------------------------------------------------------------

    def _blocks(self, given: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Block nodes and drives by the name that a device gives, each as it was given."""
        found: dict[str, str] = {}
        for name, value in given:
            if name == "blockdev" and (node := keyval.read(value, "driver").get("node-name")):
                found[node] = f"-blockdev {value}"
            elif name == "drive" and (id_ := keyval.read(value, "file").get("id")):
                found[id_] = f"-drive {value}"
        return found

    def _firmware_nodes(self, given: Sequence[tuple[str, str]]) -> frozenset[str]:
        """The block nodes that a machine has its firmware in, and those below them."""
        found = {text for name, value in given if name in ("machine", "M")
                 for key, text in keyval.read(value, "type").items() if key.startswith("pflash")}
        nodes = [keyval.read(value, "driver") for name, value in given if name == "blockdev"]
        for keys in reversed(nodes):  # what a node is on stands before it
            if keys.get("node-name") in found and "file" in keys:
                found.add(keys["file"])
        return frozenset(found)

    def _drive(self, name: str, value: str) -> None:
        keys = keyval.read(value, "file") if name == "drive" else Keys([("file", value)])
        how = keys.get("if") or {"hda": "ide", "hdb": "ide", "hdc": "ide", "hdd": "ide",
                                 "cdrom": "ide", "fda": "floppy", "fdb": "floppy",
                                 "pflash": "pflash"}.get(name) or self._default_interface()
        media = "cdrom" if name == "cdrom" else keys.get("media", "disk")
        if how == "none":
            return  # told of with its device
        if how == "pflash":
            self.uefi = True
            self._add(REPLACED, name, value, "the host's firmware",
                      "the firmware is what is tested")
            return
        if how not in ("ide", "virtio"):
            self._add(LEFT_OUT, name, value, why=f"if={how} is not carried over")
            return
        device = Keys([("driver", "ide-cd" if media == "cdrom" else "ide-hd")])
        if how == "virtio":
            device["driver"] = "virtio-blk-device" if self.microvm else "virtio-blk-pci"
        else:
            units = {"hda": 0, "hdb": 1, "hdc": 2, "hdd": 3, "cdrom": 2}
            index = units.get(name, self._place(keys))
            self.ide = max(self.ide, index + 1)
            device["bus"] = f"ide.{index}" if self.q35 else f"ide.{index // 2}"
            device["unit"] = "0" if self.q35 else str(index % 2)
        for key in ("serial", "addr"):
            if key in keys and (key == "serial" or how == "virtio"):
                device[key] = keys[key]
        if media == "cdrom":
            self.out.append(("device", device))
            self._add(REPLACED, name, value, "-device " + keyval.write(device, "driver"),
                      "the drive, without a medium")
        else:
            self._disk(device, f"-{name} {value}")

    ide = 0

    def _place(self, keys: Keys) -> int:
        """Which of the IDE drives it is: by its number, by its bus and unit, or the next."""
        index, bus, unit = (arguments.number(keys.get(key)) for key in ("index", "bus", "unit"))
        if index is not None:
            return index
        if bus is None and unit is None:
            return self.ide
        units = 1 if self.q35 else 2  # of a bus; without a unit it is the first that is free
        if unit is None:
            unit = self.ide % units if (bus or 0) == self.ide // units else 0
        return (bus or 0) * units + unit

    def _default_interface(self) -> str:
        return "ide" if self.pc else "virtio"

    def _disk(self, device: Keys, given: str) -> None:
        """A hard disk: which of them is the guest's is known once all are there."""
        order = arguments.number(device.pop("bootindex"))
        self.out.append(("device", device))
        self.disks.append(_Disk(len(self.out) - 1, len(self.lines),
                                _NO_ORDER if order is None else order))
        self.lines.append(ArgumentLine(REPLACED, given))

    def _boot_disk(self) -> None:
        """Give our disk to the one that was booted from, and empty ones to the others."""
        if not self.disks:
            return
        ours = min(self.disks, key=lambda disk: disk.order)
        for _, keys in self.out:  # it goes before all others, which keep their order
            if isinstance(keys, Keys) and (
                    order := arguments.number(keys.get("bootindex"))) is not None:
                keys["bootindex"] = str(order + 1)
        empty: list[tuple[str, Keys | str]] = []
        for number, disk in enumerate(self.disks):
            device = self.out[disk.place][1]
            assert isinstance(device, Keys)
            if disk is ours:
                device["drive"], device["bootindex"] = DISK, "0"
                for key in ("logical_block_size", "physical_block_size"):
                    device.pop(key)
                why = "the guest's own disk of the matrix, before all others in the boot order"
            else:
                device["drive"] = f"vm-empty{number}"
                if disk.order < _NO_ORDER:
                    device["bootindex"] = str(disk.order + 1)
                empty.append(("blockdev", f"driver=null-co,node-name=vm-empty{number},"
                                          f"size={_EMPTY_BYTES},read-zeroes=on"))
                why = "an empty disk of 1 GiB, which forgets what is written"
            self.lines[disk.line] = replace(
                self.lines[disk.line], now="-device " + keyval.write(device, "driver"), why=why)
        self.out[:0] = empty

    # -- devices ----------------------------------------------------------------------------------

    def _device(self, name: str, value: str) -> None:
        keys = keyval.read(value, "driver")
        driver = keys.get("driver", "")
        why = next((why for begin, why in _HOST_DEVICES.items() if driver.startswith(begin)), None)
        if not driver or why:
            self._add(LEFT_OUT, name, value, why=why or "no driver is named")
            return
        lost = next((key for key in ("memdev", "rng", "iothread", "tpmdev", "fsdev", "authz",
                                     "throttle-group")
                     if keys.get(key) in self.objects_left), None)
        if lost:
            self._add(LEFT_OUT, name, value, why=f"its {lost} is left out")
            return
        was = keys.copy()
        reasons: list[str] = []
        if driver in _GL:
            keys["driver"] = driver = _GL[driver]
            reasons.append("without the host's graphics")
        if driver in ("scsi-block", "scsi-generic"):
            keys["driver"] = driver = "scsi-hd"
            reasons.append("a device of the host's")
        for key in ("blob", "failover", "failover_pair_id", "hostmem", "x-txburst-max"):
            if key in keys:
                del keys[key]
                reasons.append(f"{key} is the host's")
        if (arguments.number(keys.get("tx_queue_size")) or 0) > _TX_QUEUE:
            del keys["tx_queue_size"]
            reasons.append("tx_queue_size is one that vhost-user and vDPA alone can have")
        if keys.get("romfile"):
            del keys["romfile"]
            reasons.append("QEMU's own ROM file")
        if not self.network and "netdev" in keys:
            del keys["netdev"]
            reasons.append("network: none")
        if "chardev" in keys:
            self._chardev(keys, driver, reasons)
        if _HARD_DISKS.fullmatch(driver) and (driver != "nvme" or "drive" in keys):
            block = self.blocks.get(keys.get("drive", ""), "")
            self._disk(keys, f"-{name} {value}" + (f" with {block}" if block else ""))
            return
        if _CDS.fullmatch(driver) and "drive" in keys:
            del keys["drive"]
            reasons.append("the drive, without a medium")
        for key in ("driveA", "driveB"):
            if keys.pop(key):
                reasons.append("the drive, without a medium")
        self.out.append((name, keys))
        if keys == was:
            self._add(RETAINED, name, value)
        else:
            self._add(REPLACED, name, value, "-device " + keyval.write(keys, "driver"),
                      ", ".join(reasons))

    def _chardev(self, keys: Keys, driver: str, reasons: list[str]) -> None:
        if driver == "isa-serial" and self.console is None and keys.get("index", "0") == "0":
            self.console_given = keys["chardev"]
            keys["chardev"] = CONSOLE
            self.console = len(self.out)
            reasons.append("the console that is read")
            return
        if keys["chardev"] in _OURS:
            keys["chardev"] = f"vm-{keys['chardev']}"
            reasons.append("the harness has one of that name")

    def _default_devices(self, given: Sequence[tuple[str, str]]) -> None:
        """What QEMU has by itself where nobody says -nodefaults, as far as the guest sees it."""
        if not self.defaults or not self.pc:
            return
        named = {name for name, _ in given}
        drivers = {keys["driver"] for name, keys in self.out
                   if name == "device" and isinstance(keys, Keys)}
        why = "QEMU has it where nothing is said"
        if not self.vga and not drivers & _INSTEAD_OF_VGA:
            self.out.append(("device", Keys([("driver", "VGA")])))
            self.lines.append(ArgumentLine(ADDED, "-device VGA", "", why))
        if not named & {"netdev", "net", "nic"}:
            self._card("e1000e" if self.q35 else "e1000", (), ADDED, "the network card", why)
        second = any(name == "drive" and re.search(r"\bindex=2\b", value) for name, value in given)
        for what, there in (
            ("an empty CD-ROM drive", second or named & {"cdrom", "hdc"} or drivers & _NO_CDROM),
            ("an empty floppy drive", self.q35 or drivers & {"floppy", "isa-fdc"}
             or named & {"fda"} or any("if=floppy" in value for _, value in given)),
            ("a parallel port", named & {"parallel"} or drivers & {"isa-parallel"}),
        ):
            if not there:
                self.lines.append(ArgumentLine(LEFT_OUT, what, "", why))

    def _console_of_its_own(self) -> None:
        if self.console is None and not self.serials:
            self.lines.append(ArgumentLine(
                ADDED, "a serial port", "", "on which the guest is read"))

    _deeds: Mapping[str, Callable[[_Translation, str, str], None]] = field(
        init=False, repr=False, default_factory=lambda: _DEEDS)


_DEEDS: Mapping[str, Callable[[_Translation, str, str], None]] = {
    "cpu": _Translation._cpu_of, "smp": _Translation._smp_of, "object": _Translation._object,
    "numa": _Translation._numa, "netdev": _Translation._netdev, "nic": _Translation._nic,
    "net": _Translation._nic, "serial": _Translation._serial, "parallel": _Translation._serial,
    "vga": _Translation._vga, "boot": _Translation._boot, "smbios": _Translation._smbios,
    "fw_cfg": _Translation._fw_cfg, "rtc": _Translation._rtc,
    "audiodev": _Translation._audiodev, "bios": _Translation._bios, "usb": _Translation._of_machine,
    "no-acpi": _Translation._of_machine, "no-hpet": _Translation._of_machine,
    "global": _Translation._global, "set": _Translation._set,
    "usbdevice": _Translation._usbdevice, "balloon": _Translation._as_device,
    "watchdog": _Translation._as_device, "localtime": _Translation._localtime,
    "device": _Translation._device,
    **dict.fromkeys(("drive", "hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "pflash"),
                    _Translation._drive),
}  # fmt: skip


def _said_last(given: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Which option says a machine's property last: that of the machine, or one of its own."""
    found: dict[str, str] = {}
    for name, value in given:
        if name in _AS_MACHINE:
            found[_AS_MACHINE[name]] = name
        elif name in ("machine", "M"):
            found |= dict.fromkeys((key for key, _ in keyval.read(value, "type").items()), name)
    return found


def _arch(program: str) -> Arch:
    name = program.rpartition("/")[2]
    found = re.fullmatch(r"qemu-system-([a-z0-9_]+?)(?:-[0-9.]+)?", name)
    text = found[1] if found else "x86_64"
    text = {"i386": "x86_64"}.get(text, text)
    try:
        return Arch(text)
    except ValueError:
        raise ValueError(f"{name} emulates {text}, and no guest of ours runs on that "
                         f"({', '.join(Arch)})") from None


def _of_a_shell(value: str) -> str:
    """Why a value with something in it that a shell would fill in is not read."""
    if _COMMAND.search(value) and not _VARIABLE.search(value):
        return "what a shell's command would say, which is not run"
    return "a shell's variable that is not set in it once and for all"


def _unread(given: Sequence[tuple[str, str]]) -> dict[int, str]:
    """The options that are left out before anything is read of them, by their number, and why."""
    last = {name: at for at, (name, _) in enumerate(given)}
    found: dict[int, str] = {}
    for at, (name, value) in enumerate(given):
        if name in _OF_THE_SHELL:
            found[at] = _OF_THE_SHELL[name]
        elif _SHELL.search(value):
            found[at] = _of_a_shell(value)
        elif not name:
            found[at] = "no option: words of ps have lost their quotes"
        elif name in _ONCE and last[name] != at:
            found[at] = _LATER
        else:
            try:
                keys = keyval.read(value)
            except ValueError as error:
                found[at] = f"cannot be read: {error}"
                continue
            wrong = [f"{key}={text}" for key, text in keys.items()
                     if ((name, key) in _SIZES and arguments.size(text) is None)
                     or ((name, key) in _NUMBERED and arguments.number(text) is None)]
            if wrong:
                found[at] = f"{', '.join(wrong)} cannot be read"
    return found


class _Statements:
    """What QEMU takes together, wherever it is said: -smp and smp. of a machine, -m and memory.

    Each key counts as it was said last; numbers are decimal, and what is none is not taken.
    """

    def __init__(self, given: Iterable[tuple[str, str]]) -> None:
        self._pairs: dict[str, list[tuple[str, str]]] = {group: [] for group in _GROUPS}
        for name, value in given:
            for group, (option, first) in _GROUPS.items():
                if name == option:
                    self._pairs[group] += keyval.read(value, first).items()
                elif name in ("machine", "M"):
                    self._pairs[group] += [
                        (key.partition(".")[2], text)
                        for key, text in keyval.read(value, "type").items()
                        if key.startswith(f"{group}.")]
        self._of: dict[str, Keys] = {}
        for group, pairs in self._pairs.items():
            self._of[group] = Keys()
            for key, text in pairs:
                if self._number(group, key, text) is not None:
                    self._of[group][_SAME_KEY.get(key, key)] = text

    def of(self, group: str) -> Keys:
        """All of it, each key once."""
        return self._of[group]

    def text(self, group: str) -> str:
        """As one option, which every QEMU reads."""
        return keyval.write(Keys([
            (key, number) for key, text in self.of(group).items()
            if (number := self._number(group, key, text)) is not None
            and not (key in _NO_CHANGE and number == "1")]), _GROUPS[group][1])

    def not_taken(self, group: str, keys: Keys) -> tuple[list[str], list[str]]:
        """What of one statement is no number, and what a later one says otherwise."""
        wrong, later = [], []
        for key, text in keys.items():
            if self._number(group, key, text) is None:
                wrong.append(f"{key}={text}")
            elif self.of(group).get(_SAME_KEY.get(key, key)) != text:
                later.append(f"{key}={text}")
        return wrong, later

    def _number(self, group: str, key: str, text: str) -> str | None:
        """As QEMU has it, in decimal; None: it is none, or the key is not known."""
        if group == "memory" and key in ("size", "maxmem", "max-size"):
            size = arguments.size(text, 1 << 20 if key == "size" else 1)
            return None if size is None else text
        if key not in _NUMBERS[group]:
            return None
        number = arguments.number(text)
        least = 1 if group == "smp" else 0
        return None if number is None or not least <= number <= _MOST_NUMBER else str(number)


def sorted_lines(lines: Iterable[ArgumentLine]) -> list[ArgumentLine]:
    """The lines by what became of them, each kind in the order of the command line."""
    return sorted(lines, key=lambda line: KINDS.index(line.kind))
