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
from bootmatrix.vm.words import options

KEPT, REPLACED, LEFT_OUT, ADDED = "kept", "replaced", "left out", "added"
KINDS = (KEPT, REPLACED, LEFT_OUT, ADDED)
MOST_MIB = 1024
"""MiB that a machine keeps unless it is told otherwise: TCG touches what it migrates."""
WRITABLE = "/cell"
"""Where a QEMU's sandbox can write files, which bootmatrix.engines.confinement says, too."""
DISK, CONSOLE = "disk", "console"
"""What the harness calls the guest's disk and its console's chardev."""
_OURS = frozenset((DISK, CONSOLE, "monitor", "firmware", "base", "base-file", "flash0", "flash1"))
_EMPTY_BYTES = 1 << 30
_LARGEST_FILE_MIB = 256  # bootmatrix.files.cell_files.LIMIT
_RAM_STEP = 2  # MiB: a page of a large backend
_LEAST_MIB = 64

_HOST_DEVICES = {
    "vfio-": "a device of the host's", "pci-assign": "a device of the host's",
    "usb-host": "a device of the host's", "usb-redir": "a device behind SPICE",
    "vhost-": "its other end is a process or the kernel of the host",
    "virtio-9p": "a directory of the host's", "vhost-user": "its other end is a process",
    "tpm-": "a TPM needs swtpm, which is not run here",
    "ccid-card-passthru": "a card of the host's",
    "smartcard": "a card of the host's", "isa-debugcon": "the harness has its own at that port",
    "virtio-input-host": "a device of the host's", "sgx-epc": "memory of the host's processor",
    "xen-": "Xen is not there",
}  # fmt: skip
_GL = {"virtio-gpu-gl-pci": "virtio-gpu-pci", "virtio-vga-gl": "virtio-vga",
       "virtio-gpu-gl-device": "virtio-gpu-device", "virtio-gpu-rutabaga-pci": "virtio-gpu-pci"}
_VGA = {"std": "VGA", "cirrus": "cirrus-vga", "virtio": "virtio-vga", "qxl": "qxl-vga",
        "vmware": "vmware-svga"}
_HARD_DISKS = re.compile(
    r"(?:virtio-blk(?:-pci|-device)?(?:-(?:non-)?transitional)?|scsi-hd|scsi-disk|scsi-block|"
    r"scsi-generic|ide-hd|ide-drive|nvme|nvme-ns|usb-storage|sd-card)")
_CDS = re.compile(r"(?:ide|scsi)-cd")
_OBJECTS = re.compile(r"(?:rng-(?:builtin|random)|memory-backend-(?:ram|file|memfd)|iothread|"
                      r"throttle-group|main-loop|acpi-generic-initiator)")
_UNCOMMON_RAM = re.compile(r"(?:pc-dimm|nvdimm|virtio-mem-pci|virtio-pmem-pci|ivshmem-plain)")
# Options that are another's business here, and why.
_LEFT_OUT = {
    **dict.fromkeys(("spice", "vnc", "display", "sdl", "gtk", "curses", "k", "full-screen",
                     "nographic", "show-cursor", "portrait", "rotate", "no-frame", "alt-grab",
                     "ctrl-grab", "no-quit", "ui"),
                    "a display of the host's: the serial console is read"),
    **dict.fromkeys(("monitor", "qmp", "qmp-pretty", "mon"), "the monitor is the harness's"),
    **dict.fromkeys(("name", "pidfile", "daemonize", "runas", "run-with", "chroot", "sandbox",
                     "msg", "D", "d", "trace", "debugcon", "nodefconfig", "writeconfig", "seed",
                     "async-teardown", "only-migratable"),
                    "the process is the harness's"),
    **dict.fromkeys(("S", "incoming", "loadvm", "snapshot", "no-reboot", "no-shutdown", "action",
                     "preconfig", "gdb", "s", "qtest"), "the scenario says what is done"),
    **dict.fromkeys(("kernel", "initrd", "append", "dtb", "shim"),
                    "the guest boots from its disk, or by guest: linux-kernel"),
    **dict.fromkeys(("enable-kvm", "accel", "no-kvm", "no-kvm-irqchip", "no-kvm-pit",
                     "no-kvm-pit-reinjection", "kvm-shadow-memory", "xen-domid", "xen-attach"),
                    "the axis accel says it"),
    **dict.fromkeys(("mem-path", "mem-prealloc", "overcommit", "realtime", "balloon-size"),
                    "where the host takes its memory from"),
    **dict.fromkeys(("fsdev", "virtfs", "virtfs_synth"), "a directory of the host's"),
    **dict.fromkeys(("readconfig", "acpitable", "plugin", "L", "mtdblock", "sd", "tb-size"),
                    "a file of the host's"),
    **dict.fromkeys(("tpmdev",), "a TPM needs swtpm, which is not run here"),
    **dict.fromkeys(("icount", "singlestep", "cpu-throttle", "semihosting", "semihosting-config"),
                    "how QEMU's time goes is the harness's"),
    **dict.fromkeys(("soundhw",), "no QEMU since 7.1 has it"),
    **dict.fromkeys(("usbdevice-host", "pcspk-audiodev", "rtc-td-hack", "no-fd-bootchk",
                     "win2k-hack", "tdf", "old-param"), "QEMU 11.1 does not have it"),
}  # fmt: skip
# Kept as they are: they say what the guest sees, and name nothing of the host's.
_GIVEN_ANYWAY = ("nodefaults", "no-user-config")
_AS_IT_IS = frozenset(("global", "uuid", "numa", "watchdog-action", "set", "prom-env", "g"))
_NO_CHANGE = ("dies", "clusters", "modules", "books", "drawers")
_SAFE = re.compile(r"[A-Za-z0-9._:+-]*")
_VERSIONED = re.compile(r"(pc-q35|pc-i440fx|virt)-(\d+(?:\.\d+)*)")
_DISTRIBUTION = re.compile(r"(pc-q35|pc-i440fx|virt|pc|q35)-[a-z][A-Za-z0-9.+-]*")
# Proxmox VE's, with the version of QEMU's own that it is.
_PVE = re.compile(r"((?:pc-q35|pc-i440fx|virt)-\d+(?:\.\d+)*)\+pve\d+")


@dataclass(frozen=True)
class Line:
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
    lines: tuple[Line, ...]


def translate(
    program: str, words: Sequence[str], *, memory: int | None = None, network: bool = True
) -> Translated:
    """A machine of QEMU's command line.

    ``memory`` is how many MiB it is to have; ``network``: its cards have user-mode networking,
    which is cut off from everything. Raises ValueError for what is no machine of a known kind.
    """
    return _Translation(program, words, memory, network).done()


@dataclass
class _Disk:
    """A hard disk: the place of its device among the words, and its boot index."""

    place: int
    order: int


@dataclass
class _Translation:
    program: str
    words: Sequence[str]
    memory: int | None
    network: bool
    lines: list[Line] = field(default_factory=list)
    out: list[tuple[str, dict[str, str] | str]] = field(default_factory=list)

    # -- the whole of it -----------------------------------------------------------------------

    def done(self) -> Translated:
        given = options(self.words, NO_VALUE)
        self.arch = _arch(self.program)
        self.machine_type = ""
        self.machine_options: dict[str, str] = {}
        self.cpu = ""
        self.smp: int | str = 1
        self.uefi = False
        self.disks: list[_Disk] = []
        self.console: int | None = None
        self.serials = 0
        self.cards = 0
        self.blocks = self._blocks(given)
        self.objects_left: set[str] = set()
        self.defaults = not any(name == "nodefaults" for name, _ in given)
        machine = next((v for n, v in reversed(given) if n in ("machine", "M")), "")
        self._machine_of(machine, [v for n, v in given if n in ("machine", "M")])
        most = _LARGEST_FILE_MIB * self._shared(given) or MOST_MIB
        self.old_mib, self.mib, self.memory_rest = self._memory_of(given, min(most, MOST_MIB))
        self.base_ram = self._base_ram(given)
        if self.mib > most:
            raise ValueError(f"{self.mib} MiB of shared memory are more than a sandbox can have in "
                             f"a file: at most {most} with this machine's nodes")
        for name, value in given:
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
        used = {keys["chardev"] for _, keys in self.out
                if isinstance(keys, dict) and "chardev" in keys} - {CONSOLE}
        for id_ in sorted(used):
            words += ["-chardev", f"null,id={id_}"]
        for name, value in self.out:
            first = {"device": "driver", "object": "qom-type", "netdev": "type"}.get(name, "")
            words += [f"-{name}", value if isinstance(value, str) else keyval.write(value, first)]
        return words

    def _say(self, kind: str, name: str, value: str, now: str = "", why: str = "") -> None:
        given = f"-{name} {value}".rstrip() if name else value
        self.lines.append(Line(kind, given, now, why))

    def _keys(self, value: str, first: str) -> dict[str, str]:
        try:
            return keyval.read(value, first)
        except (ValueError, AttributeError):
            return {}

    # -- machine, CPU, memory ------------------------------------------------------------------

    def _machine_of(self, last: str, every: Sequence[str]) -> None:
        keys: dict[str, str] = {}
        for value in every:
            keys |= self._keys(value, "type")
        kind = keys.pop("type", "") or {
            Arch.X86_64: "pc", Arch.AARCH64: "virt", Arch.RISCV64: "virt"}[self.arch]
        family = {"pc": "pc-i440fx", "q35": "pc-q35"}.get(kind, kind)
        if pve := _PVE.fullmatch(family):
            self._say(REPLACED, "machine", kind, pve[1], "QEMU's own type of that version")
            family = kind = pve[1]
        board = re.sub(r"-\d+(\.\d+)*$", "", family)
        match = None if _VERSIONED.fullmatch(family) else _DISTRIBUTION.fullmatch(family)
        if match is not None:
            known = {"pc": "pc-i440fx", "q35": "pc-q35"}.get(match[1], match[1])
            if family not in ("pc-i440fx", "pc-q35"):
                self._say(REPLACED, "machine", kind, f"newest-common:{known}",
                          "a distribution's own type, which QEMU does not have")
                family = board = known
        if family in ("pc-i440fx", "pc-q35") or (family == "virt" and self.arch is Arch.AARCH64):
            now = f"newest-common:{family}"
            if kind in ("pc", "q35", "virt"):
                self._say(REPLACED, "machine", kind, now,
                          "without a version each QEMU takes its own newest, and none migrates")
            self.machine_type = now
        else:
            self.machine_type = family
            self._say(KEPT, "machine", kind)
        self.q35 = board == "pc-q35"
        self.pc = board in ("pc-q35", "pc-i440fx")
        self.microvm = board == "microvm"
        for key, value in keys.items():
            text = f"{key}={value}"
            if key.startswith("pflash") or key == "firmware":
                self.uefi = self.uefi or key == "pflash0"
                self._say(REPLACED, "machine", text, "the host's firmware",
                          "the firmware is what is tested")
            elif key in ("accel", "kernel_irqchip", "kernel-irqchip", "kvm-type", "kvm_shadow_mem",
                         "confidential-guest-support", "memory-encryption", "mem-merge",
                         "dump-guest-core", "enforce-config-section", "graphics"):
                self._say(LEFT_OUT, "machine", text, why=(
                    "the axis accel says it" if key == "accel" else
                    "the console that is read says it" if key == "graphics" else
                    "the host's, nothing that the guest sees"))
            elif not _SAFE.fullmatch(value) or not _SAFE.fullmatch(key):
                self._say(LEFT_OUT, "machine", text, why="no plain word")
            else:
                self.machine_options[key] = value
                self._say(KEPT, "machine", text)

    def _shared(self, given: Sequence[tuple[str, str]]) -> int:
        """How many memory backends are in files: shared with whom is on the host."""
        backends = [self._keys(value, "qom-type") for name, value in given if name == "object"]
        return sum(keys.get("share", "on" if kind.endswith("memfd") else "off") == "on"
                   for keys in backends if (kind := keys.get("qom-type", "")) in (
                       "memory-backend-memfd", "memory-backend-file"))

    def _memory_of(
        self, given: Sequence[tuple[str, str]], most: int
    ) -> tuple[int, int, str]:
        """What it had, what it has now, in MiB, and what -m says beside that."""
        value = next((value for name, value in reversed(given) if name == "m"), "")
        keys = self._keys(value, "size") if value else {}
        size = keys.get("size", "128")
        old = _mib(size, 1 << 20) or 128
        new = self.memory or min(old, most)
        rest = ""
        if "slots" in keys and keys["slots"].isdecimal():
            rest += f",slots={keys['slots']}"
        if "maxmem" in keys and (limit := _mib(keys["maxmem"], 1)):
            rest += f",maxmem={max(limit, new)}M"
        if value:
            if new == old:
                self._say(KEPT, "m", value)
            else:
                self._say(REPLACED, "m", value, f"-m {new}M{rest}",
                          "more than a guest of ours needs; memory: MIB is another size"
                          if self.memory is None else "as memory: says")
        return old, new, rest

    def _base_ram(self, given: Sequence[tuple[str, str]]) -> dict[str, int]:
        """The backends of the machine's own memory, with the MiB that each has now."""
        numa = [self._keys(value, "type") for name, value in given if name == "numa"]
        named = [keys["memdev"] for keys in numa if keys.get("memdev")]
        if backend := self.machine_options.get("memory-backend"):
            named.append(backend)
        sizes = {}
        for name, value in given:
            keys = self._keys(value, "qom-type") if name == "object" else {}
            if keys.get("id") in named:
                sizes[keys["id"]] = _mib(keys.get("size", ""), 1) or 0
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
        if not name:
            self._say(LEFT_OUT, "", value, why="no option: words of ps have lost their quotes")
        elif "$" in value and re.search(r"\$[({A-Za-z_]", value):
            self._say(LEFT_OUT, name, value, why="a shell's variable that is not set in it")
        elif name in ("machine", "M", "m", "chardev", "blockdev"):
            return  # read before
        elif name in _GIVEN_ANYWAY:
            self._say(KEPT, name, value)
        elif name in _LEFT_OUT:
            self._say(LEFT_OUT, name, value, why=_LEFT_OUT[name])
        elif (deed := self._deeds.get(name)) is not None:
            deed(self, name, value)
        elif name in _AS_IT_IS:
            self._keep(name, value)
        else:
            self._say(LEFT_OUT, name, value, why="not known here")

    def _other_ends(self, given: Sequence[tuple[str, str]]) -> None:
        """What became of chardevs and block nodes, which are told of once their users are known."""
        used = {keys["chardev"] for _, keys in self.out
                if isinstance(keys, dict) and "chardev" in keys}
        for name, value in given:
            if name == "chardev":
                id_ = self._keys(value, "backend").get("id", "")
                if f"vm-{id_}" in used or id_ in used:
                    self._say(REPLACED, name, value, f"-chardev null,id={id_}",
                              "its other end is the host's")
                elif id_ == self.console_given:
                    self._say(REPLACED, name, value, "the console that is read")
                else:
                    self._say(LEFT_OUT, name, value, why="nothing that is kept has it")
            elif name == "blockdev" or (name == "drive" and
                                        self._keys(value, "file").get("if") == "none"):
                self._say(REPLACED, name, value, "the disk of its device, if that is kept",
                          "a file of the host's")

    console_given = ""

    def _keep(self, name: str, value: str) -> None:
        self.out.append((name, value))
        self._say(KEPT, name, value)

    def _global(self, name: str, value: str) -> None:
        keys = self._keys(value, "")
        driver = keys.get("driver") or value.partition(".")[0]
        if "pflash" in driver:
            self._say(LEFT_OUT, name, value, why="the firmware is what is tested")
        else:
            self._keep(name, value)

    def _cpu_of(self, name: str, value: str) -> None:
        model, _, properties = value.partition(",")
        kept: list[str] = []
        dropped: list[str] = []
        for part in properties.split(",") if properties else []:
            (kept if re.fullmatch(r"[+-]?[A-Za-z0-9][A-Za-z0-9._-]*(=[A-Za-z0-9._:+-]*)?", part)
             and not part.startswith("host-cache") else dropped).append(part)
        kept = [part if part[:1] in "+-" or "=" in part else f"{part}=on" for part in kept]
        if model in ("host", "host-passthrough"):
            self.cpu = ",".join(["max", *(part for part in kept
                                          if not part.startswith("migratable"))])
            self._say(REPLACED, name, value, f"-cpu {self.cpu}",
                      "the host's own processor is KVM's alone")
        else:
            self.cpu = ",".join([model, *kept])
            self._say(REPLACED if dropped else KEPT, name, value, f"-cpu {self.cpu}" if dropped
                      else "", "no plain word: " + ", ".join(dropped) if dropped else "")

    def _smp_of(self, name: str, value: str) -> None:
        keys = {key: text for key, text in self._keys(value, "cpus").items()
                if text.isdecimal()}
        now = {key: text for key, text in keys.items() if not (key in _NO_CHANGE and text == "1")}
        text = keyval.write(now, "cpus")
        self.smp = int(text) if text.isdecimal() else text or 1
        if now == keys:
            self._say(KEPT, name, value)
        else:
            self._say(REPLACED, name, value, f"-smp {text}",
                      "=1 says nothing, and old QEMUs do not know it")

    def _object(self, name: str, value: str) -> None:
        keys = self._keys(value, "qom-type")
        kind, id_ = keys.get("qom-type", ""), keys.get("id", "")
        if not _OBJECTS.fullmatch(kind):
            self.objects_left.add(id_)
            self._say(LEFT_OUT, name, value, why="a secret, or a part of the host")
            return
        was, why = dict(keys), []
        if kind == "rng-random" and keys.get("filename") not in ("/dev/random", "/dev/urandom",
                                                                 None):
            keys = {"qom-type": "rng-builtin", "id": id_}
            why.append("a file of the host's")
        if kind.startswith("memory-backend-"):
            keys, why = self._backend(keys)
        self.out.append((name, keys))
        if keys == was:
            self._say(KEPT, name, value)
        else:
            self._say(REPLACED, name, value, "-object " + keyval.write(keys, "qom-type"),
                      ", ".join(why))

    def _backend(self, keys: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        kind, now, why = keys["qom-type"], dict(keys), []
        host = [key for key in now if key.startswith(("host-nodes", "policy", "prealloc", "hugetlb",
                                                      "mem-path", "discard-data", "align", "pmem",
                                                      "merge", "dump", "seal", "readonly", "rom",
                                                      "offset", "x-use-canonical"))
                and key != "x-use-canonical-path-for-ramblock-id"]
        for key in host:
            del now[key]
        if host:
            why.append("where the host takes its memory from: " + ", ".join(host))
        if kind != "memory-backend-ram":  # shared or not: a memfd is, unless it says otherwise
            if kind == "memory-backend-memfd":
                now.setdefault("share", "on")
            shared = now.get("share") == "on"
            now["qom-type"] = "memory-backend-file" if shared else "memory-backend-ram"
            if shared:  # an unnamed file there; in memory no program of a sandbox makes any
                now["mem-path"] = WRITABLE
            why.append("its file is the host's" if kind == "memory-backend-file" else
                       "no program in a sandbox makes files in memory")
        mib = self.base_ram.get(keys.get("id", "")) or (
            _mib(keys.get("size", ""), 1) if self.mib == self.old_mib else
            max(_LEAST_MIB, (_mib(keys.get("size", ""), 1) or 0) * self.mib // self.old_mib
                // _LEAST_MIB * _LEAST_MIB))
        if mib and mib != _mib(keys.get("size", ""), 1):
            now["size"] = f"{mib}M"
            why.append("its part of the memory")
        elif mib:
            now["size"] = f"{mib}M" if keys.get("size", "").isdecimal() else keys["size"]
            now["size"] = keys["size"]
        return now, why

    def _numa(self, name: str, value: str) -> None:
        keys = self._keys(value, "type")
        if "mem" in keys and self.mib != self.old_mib and (mem := _mib(keys["mem"], 1 << 20)):
            keys["mem"] = f"{mem * self.mib // self.old_mib}M"
            self.out.append((name, keyval.write(keys, "type")))
            self._say(REPLACED, name, value, "-numa " + keyval.write(keys, "type"),
                      "its part of the memory")
        else:
            self.out.append((name, keyval.write(keys, "type")))
            self._say(KEPT, name, value)

    def _netdev(self, name: str, value: str) -> None:
        keys = self._keys(value, "type")
        id_ = keys.get("id", "")
        if not self.network or not id_:
            self._say(LEFT_OUT, name, value, why="network: none says so" if id_ else "no id")
            return
        if keys.get("type") == "hubport":
            self._say(LEFT_OUT, name, value, why="a hub of QEMU's own")
            return
        now = f"user,id={id_},restrict=on"
        self.out.append((name, now))
        self._say(REPLACED, name, value, f"-netdev {now}", "a network of the host's")

    def _nic(self, name: str, value: str) -> None:
        keys = self._keys(value, "type")
        kind = keys.pop("type", "")
        if name == "net" and kind != "nic":
            self._say(LEFT_OUT, name, value, why="a network of the host's; the card has user,"
                      "restrict=on")
            return
        if kind == "none":
            self._say(KEPT, name, value)
            return
        model = keys.get("model") or ("e1000" if self.pc and not self.q35 else
                                      "e1000e" if self.q35 else "virtio-net-pci")
        model = {"virtio": "virtio-net-pci"}.get(model, model)
        mac = keys.get("macaddr") or keys.get("mac") or ""
        self._card(model, mac, REPLACED, f"-{name} {value}",
                   "the same card, with a network of its own")

    def _card(self, model: str, mac: str, kind: str, given: str, why: str) -> None:
        self.cards += 1
        device = {"driver": model}
        if self.network:
            device["netdev"] = f"vm-net{self.cards}"
            self.out.append(("netdev", f"user,id=vm-net{self.cards},restrict=on"))
        if mac:
            device["mac"] = mac
        self.out.append(("device", device))
        self.lines.append(Line(kind, given, "-device " + keyval.write(device, "driver"), why))

    def _serial(self, name: str, value: str) -> None:
        self.serials += 1
        if name == "serial" and value == "none":
            self._say(LEFT_OUT, name, value, why="the serial console is what is read")
        elif self.serials == 1 and name == "serial":
            self._say(REPLACED, name, value, "the console that is read")
        else:
            self._say(LEFT_OUT, name, value, why="one serial port is read, and no other is there")

    def _vga(self, name: str, value: str) -> None:
        if value == "none":
            self._say(KEPT, name, value, why="there is none unless it is given")
        elif value not in _VGA:
            self._say(LEFT_OUT, name, value, why="not known here")
        else:
            self.out.append(("device", {"driver": _VGA[value]}))
            self._say(REPLACED, name, value, f"-device {_VGA[value]}", "the same, said as a device")
        self.vga = True

    vga = False

    def _boot(self, name: str, value: str) -> None:
        keys = self._keys(value, "order")
        now = {key: text for key, text in keys.items() if key not in ("splash",)}
        self._changed(name, value, keys, now, "order", "a file of the host's")

    def _changed(self, name: str, value: str, was: Mapping[str, str], now: Mapping[str, str],
                 first: str, why: str) -> None:
        if not now or (set(now) <= {first} and first == "type"):
            self._say(LEFT_OUT, name, value, why=why)
            return
        text = keyval.write(now, first)
        self.out.append((name, text))
        if dict(was) == dict(now):
            self._say(KEPT, name, value)
        else:
            self._say(REPLACED, name, value, f"-{name} {text}", why)

    def _smbios(self, name: str, value: str) -> None:
        keys = self._keys(value, "")
        now = {key: text for key, text in keys.items() if key not in ("file", "path")}
        if "file" in keys:
            self._say(LEFT_OUT, name, value, why="a file of the host's")
        else:
            self._changed(name, value, keys, now, "", "a file of the host's")

    def _fw_cfg(self, name: str, value: str) -> None:
        keys = self._keys(value, "name")
        if "file" in keys or "gen_id" in keys:
            self._say(LEFT_OUT, name, value, why="a file of the host's")
        elif keys.get("name", "").startswith("opt/bootmatrix/"):
            self._say(LEFT_OUT, name, value, why="the harness's own name")
        else:
            self._keep(name, keyval.write(keys, ""))
            self.lines[-1] = replace(self.lines[-1], given=f"-{name} {value}")

    def _rtc(self, name: str, value: str) -> None:
        keys = self._keys(value, "")
        self._changed(name, value, keys, keys, "", "")

    def _audiodev(self, name: str, value: str) -> None:
        keys = self._keys(value, "driver")
        now = f"none,id={keys.get('id', 'audio')}"
        self.out.append((name, now))
        self._say(KEPT if value == now else REPLACED, name, value, f"-audiodev {now}",
                  "" if value == now else "sound of the host's")

    def _bios(self, name: str, value: str) -> None:
        self.uefi = self.uefi or "ovmf" in value.lower() or "edk2" in value.lower()
        self._say(REPLACED, name, value, "the host's firmware", "the firmware is what is tested")

    def _usb(self, name: str, value: str) -> None:
        self.machine_options["usb"] = "on"
        self._say(REPLACED, name, value, "usb=on of the machine", "the same")

    def _no(self, name: str, value: str) -> None:
        key = name.removeprefix("no-")
        self.machine_options[key] = "off"
        self._say(REPLACED, name, value, f"{key}=off of the machine",
                  "the same; QEMU since 9.0 has it no other way")

    def _usbdevice(self, name: str, value: str) -> None:
        known = {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd"}
        if value not in known:
            self._say(LEFT_OUT, name, value, why="a device of the host's")
            return
        self.machine_options.setdefault("usb", "on")
        self.out.append(("device", {"driver": known[value]}))
        self._say(REPLACED, name, value, f"-device {known[value]}", "the same, said as a device")

    def _as_device(self, name: str, value: str) -> None:
        driver = value
        if name == "balloon":
            keys = self._keys(value, "driver")
            driver = "virtio-balloon-pci" if keys.get("driver") == "virtio" else ""
        if not driver or driver == "none":
            self._say(LEFT_OUT, name, value, why="none")
            return
        self.out.append(("device", {"driver": driver}))
        self._say(REPLACED, name, value, f"-device {driver}", "the same, said as a device")

    def _localtime(self, name: str, value: str) -> None:
        self.out.append(("rtc", "base=localtime"))
        self._say(REPLACED, name, value, "-rtc base=localtime", "the same, as QEMU has it now")

    # -- disks ------------------------------------------------------------------------------------

    def _blocks(self, given: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Block nodes and drives by the name that a device gives, each as it was given."""
        found: dict[str, str] = {}
        for name, value in given:
            if name == "blockdev" and (node := self._keys(value, "driver").get("node-name")):
                found[node] = f"-blockdev {value}"
            elif name == "drive" and (id_ := self._keys(value, "file").get("id")):
                found[id_] = f"-drive {value}"
        return found

    def _drive(self, name: str, value: str) -> None:
        keys = self._keys(value, "file") if name == "drive" else {"file": value}
        how = keys.get("if") or {"hda": "ide", "hdb": "ide", "hdc": "ide", "hdd": "ide",
                                 "cdrom": "ide", "fda": "floppy", "fdb": "floppy",
                                 "pflash": "pflash"}.get(name) or self._default_interface()
        media = "cdrom" if name == "cdrom" else keys.get("media", "disk")
        if how == "none":
            return  # told of with its device
        if how == "pflash":
            self.uefi = True
            self._say(REPLACED, name, value, "the host's firmware",
                      "the firmware is what is tested")
            return
        if how not in ("ide", "virtio"):
            self._say(LEFT_OUT, name, value, why=f"if={how} is not carried over")
            return
        device = {"driver": "ide-cd" if media == "cdrom" else "ide-hd"}
        if how == "virtio":
            device = {"driver": "virtio-blk-device" if self.microvm else "virtio-blk-pci"}
        else:
            units = {"hda": 0, "hdb": 1, "hdc": 2, "hdd": 3, "cdrom": 2}
            index = units.get(name, int(keys["index"]) if keys.get("index", "").isdecimal()
                              else self.ide)
            self.ide = max(self.ide, index + 1)
            device["bus"] = f"ide.{index}" if self.q35 else f"ide.{index // 2}"
            device["unit"] = "0" if self.q35 else str(index % 2)
        if "serial" in keys:
            device["serial"] = keys["serial"]
        if media == "cdrom":
            self.out.append(("device", device))
            self._say(REPLACED, name, value, "-device " + keyval.write(device, "driver"),
                      "the drive, without a medium")
        else:
            self._disk(device, f"-{name} {value}")

    ide = 0

    def _default_interface(self) -> str:
        return "ide" if self.pc else "virtio"

    def _disk(self, device: dict[str, str], given: str) -> None:
        """A hard disk: which of them is the guest's is known once all are there."""
        order = device.pop("bootindex", "")
        self.out.append(("device", device))
        self.disks.append(_Disk(len(self.out) - 1, int(order) if order.isdecimal() else 1 << 20))
        self.lines.append(Line(REPLACED, given, f"disk {len(self.out) - 1}", ""))

    def _boot_disk(self) -> None:
        """Give our disk to the one that was booted from, and empty ones to the others."""
        if not self.disks:
            return
        ours = min(self.disks, key=lambda disk: disk.order)
        for _, keys in self.out:  # it goes before all others, which keep their order
            if isinstance(keys, dict) and keys.get("bootindex", "").isdecimal():
                keys["bootindex"] = str(int(keys["bootindex"]) + 1)
        empty: list[tuple[str, dict[str, str] | str]] = []
        for number, disk in enumerate(self.disks):
            device = self.out[disk.place][1]
            assert isinstance(device, dict)
            if disk is ours:
                device |= {"drive": DISK, "bootindex": "0"}
                for key in ("logical_block_size", "physical_block_size"):
                    device.pop(key, None)
                why = "the guest's own disk of the matrix, before all others in the boot order"
            else:
                device["drive"] = f"vm-empty{number}"
                if disk.order < 1 << 20:
                    device["bootindex"] = str(disk.order + 1)
                empty.append(("blockdev", f"driver=null-co,node-name=vm-empty{number},"
                                          f"size={_EMPTY_BYTES},read-zeroes=on"))
                why = "an empty disk of 1 GiB, which forgets what is written"
            marker = f"disk {disk.place}"
            self.lines = [replace(line, now="-device " + keyval.write(device, "driver"), why=why)
                          if line.now == marker and line.kind == REPLACED else line
                          for line in self.lines]
        self.out[:0] = empty

    # -- devices ----------------------------------------------------------------------------------

    def _device(self, name: str, value: str) -> None:
        keys = self._keys(value, "driver")
        driver = keys.get("driver", "")
        why = next((why for begin, why in _HOST_DEVICES.items() if driver.startswith(begin)), None)
        if not driver or why:
            self._say(LEFT_OUT, name, value, why=why or "no driver is named")
            return
        lost = next((key for key in ("memdev", "rng", "iothread", "tpmdev", "fsdev", "authz",
                                     "throttle-group")
                     if keys.get(key) in self.objects_left), None)
        if lost:
            self._say(LEFT_OUT, name, value, why=f"its {lost} is left out")
            return
        was = dict(keys)
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
            if keys.pop(key, None):
                reasons.append("the drive, without a medium")
        self.out.append((name, keys))
        if keys == was:
            self._say(KEPT, name, value)
        else:
            self._say(REPLACED, name, value, "-device " + keyval.write(keys, "driver"),
                      ", ".join(reasons))

    def _chardev(self, keys: dict[str, str], driver: str, reasons: list[str]) -> None:
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
                   if name == "device" and isinstance(keys, dict)}
        why = "QEMU has it where nothing is said"
        if not self.vga and not drivers & {*_VGA.values(), "bochs-display", "ramfb",
                                           "secondary-vga", "virtio-gpu-pci"}:
            self.out.append(("device", {"driver": "VGA"}))
            self.lines.append(Line(ADDED, "-device VGA", "", why))
        if not named & {"netdev", "net", "nic"}:
            self._card("e1000e" if self.q35 else "e1000", "", ADDED, "the network card", why)

    def _console_of_its_own(self) -> None:
        if self.console is None and not self.serials:
            self.lines.append(Line(ADDED, "a serial port", "", "on which the guest is read"))

    _deeds: Mapping[str, Callable[[_Translation, str, str], None]] = field(
        init=False, repr=False, default_factory=lambda: _DEEDS)


_DEEDS: Mapping[str, Callable[[_Translation, str, str], None]] = {
    "cpu": _Translation._cpu_of, "smp": _Translation._smp_of, "object": _Translation._object,
    "numa": _Translation._numa, "netdev": _Translation._netdev, "nic": _Translation._nic,
    "net": _Translation._nic, "serial": _Translation._serial, "parallel": _Translation._serial,
    "vga": _Translation._vga, "boot": _Translation._boot, "smbios": _Translation._smbios,
    "fw_cfg": _Translation._fw_cfg, "rtc": _Translation._rtc,
    "audiodev": _Translation._audiodev, "bios": _Translation._bios, "usb": _Translation._usb,
    "no-acpi": _Translation._no, "no-hpet": _Translation._no, "global": _Translation._global,
    "usbdevice": _Translation._usbdevice, "balloon": _Translation._as_device,
    "watchdog": _Translation._as_device, "localtime": _Translation._localtime,
    "device": _Translation._device,
    **dict.fromkeys(("drive", "hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "pflash"),
                    _Translation._drive),
}  # fmt: skip


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


def _mib(size: str, unit: int) -> int | None:
    """MiB of a size as QEMU writes it; ``unit`` is what a number without a suffix counts."""
    found = re.fullmatch(r"([0-9]{1,18})([kKmMgGtT]?)[bB]?", size)
    if found is None:
        return None
    factor = {"": unit, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}[found[2].lower()]
    return int(found[1]) * factor >> 20


def sorted_lines(lines: Iterable[Line]) -> list[Line]:
    """The lines by what became of them, each kind in the order of the command line."""
    return sorted(lines, key=lambda line: KINDS.index(line.kind))
