"""The words of the firmware-ownership model: frozen data and enums, no behaviour that does I/O.

Each word is used as the table "Words" of docs/model.md defines it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

RECORD_SCHEMA = 2
DEFAULT_MACHINE = "default"
NEWEST_COMMON = "newest-common"
OWN_MACHINE = "own"
"""The machine that a guest of a matrix file's own has of itself."""


class Interface(StrEnum):
    """The interface a firmware offers to the guest (QEMU's docs/interop/firmware.json).

    ``ipl``, s390x's initial program load, is none of those there.
    """

    BIOS = "bios"
    UEFI = "uefi"
    OPENFIRMWARE = "openfirmware"
    IPL = "ipl"


class Arch(StrEnum):
    """What a QEMU emulates, spelled as in the name of its program, qemu-system-ARCH."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    RISCV64 = "riscv64"
    PPC64 = "ppc64"
    SPARC64 = "sparc64"
    LOONGARCH64 = "loongarch64"
    S390X = "s390x"


class GuestKind(StrEnum):
    """What runs in a guest once its firmware is done.

    ``probe`` is a program of ours for the firmware's interface: a boot sector, an EFI application,
    or a client of Open Firmware. ``prompt`` is none at all: the firmware's own prompt, at which it
    waits where nothing can be booted, and which it says again when somebody types a space and
    Enter. ``linux`` boots Debian's kernel from the guest's disk, ``linux-kernel`` the same by
    ``-kernel``, through fw_cfg. ``disk`` is whatever is on a disk image of the user's.
    """

    PROBE = "probe"
    PROMPT = "prompt"
    LINUX = "linux"
    LINUX_KERNEL = "linux-kernel"
    DISK = "disk"

    @property
    def is_linux(self) -> bool:
        """Whether a Linux kernel of ours runs."""
        return self in (GuestKind.LINUX, GuestKind.LINUX_KERNEL)

    @property
    def is_foreign(self) -> bool:
        """Whether nothing of ours runs: it says that it is up, and knows no command of ours."""
        return self in (GuestKind.PROMPT, GuestKind.DISK)

    # What an OwnGuest has, too: one of ours has no machine of its own, and no disk of the user's.

    @property
    def kind(self) -> GuestKind:
        """Itself."""
        return self

    @property
    def machine(self) -> OwnMachine | None:
        """None: a board of the matrix's axes."""
        return None

    @property
    def disk(self) -> OwnDisk | None:
        """None: a disk of ours."""
        return None

    @property
    def up(self) -> str:
        """A prompt, as a regular expression; "" of the others, which say so as the probe does."""
        return _PROMPT if self is GuestKind.PROMPT else ""

    @property
    def smbios(self) -> str:
        """Nothing: it tells by itself."""
        return ""

    @property
    def login(self) -> tuple[tuple[str, str], ...]:
        """Nobody has to."""
        return ()


# OpenBIOS' command line: how deep its stack is stands before it; or s390-ccw's boot menu.
_PROMPT = r"(?:^|[\r\n])(?:[0-9] > |Please choose:)"


@dataclass(frozen=True)
class Limits:
    """What each sandbox of a cell may have, in MiB and processes; None: what they have by default.

    ``memory`` is that of all its programs, where the engine can bound that, else the address space
    of each; ``file`` that of the largest file, ``names`` how many there may be.
    """

    memory: int | None = None
    file: int | None = None
    processes: int | None = None
    names: int | None = None

    @property
    def given(self) -> dict[str, int]:
        """Those that are not the default, as a matrix file has them."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}


LIMITS = ("memory", "file", "processes")
"""The limits that a matrix file can set."""
DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class OwnMachine:
    """Somebody's machine: what QEMU is given for it, beside what the harness gives each guest.

    ``machine`` is a type with options, ``smp`` and ``memory`` as the axes of these names have them.
    ``words`` are the rest; with ``has_disk`` a device among them has the drive ``disk``, with
    ``has_console`` one has the chardev ``console``. ``uefi``: it had UEFI firmware.
    """

    arch: Arch
    machine: str
    cpu: str = ""
    smp: int | str = 1
    memory: int | str = ""
    words: tuple[str, ...] = ()
    has_disk: bool = False
    has_console: bool = False
    uefi: bool = False


@dataclass(frozen=True)
class OwnDisk:
    """A disk image of the user's, which is only read; ``format`` is raw or qcow2."""

    path: Path
    format: str = "qcow2"


@dataclass(frozen=True)
class OwnGuest:
    """A guest of the matrix file's own: somebody's machine, and what runs in it.

    ``kind`` is a program of ours, or, with a ``disk``, what is on that: it is up when its console
    says ``up``, a regular expression. ``smbios`` is a command that prints the firmware's version in
    a shell there; ``login`` is what to type before it, each where the console says a pattern.
    """

    name: str
    kind: GuestKind
    machine: OwnMachine | None = None
    disk: OwnDisk | None = None
    up: str = ""
    smbios: str = ""
    login: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def value(self) -> str:
        """As a guest of ours has it."""
        return self.name

    @property
    def is_linux(self) -> bool:
        """Whether our Linux runs in it."""
        return self.kind.is_linux


class Nic(StrEnum):
    """The guest's network card, which brings an option ROM from its host.

    ``...-romsize`` gives the ROM's block one size on all hosts, which is the known remedy where
    their ROM files differ in size.
    """

    NONE = "none"
    VIRTIO = "virtio"
    VIRTIO_ROMSIZE = "virtio-romsize"
    E1000 = "e1000"
    E1000_ROMSIZE = "e1000-romsize"


class Tpm(StrEnum):
    """The interface of the guest's TPM, which swtpm emulates beside each of its QEMUs."""

    NONE = "none"
    TIS = "tis"
    CRB = "crb"


class Disk(StrEnum):
    """How the guest's disk is attached; ``own``: as somebody's machine has it."""

    AHCI = "ahci"
    IDE = "ide"
    VIRTIO = "virtio"
    FLOPPY = "floppy"
    OWN = "own"


class Accel(StrEnum):
    """QEMU's accelerator: on all hosts, or first on the source and then on all others."""

    TCG = "tcg"
    KVM = "kvm"
    TCG_TO_KVM = "tcg-to-kvm"
    KVM_TO_TCG = "kvm-to-tcg"

    def on(self, host: int) -> Accel:
        """The one of a host, which stands at that place in its cell."""
        first, _, then = self.value.partition("-to-")
        return Accel(then if host and then else first)

    @property
    def with_kvm(self) -> bool:
        """Whether any host has KVM."""
        return Accel.KVM in (self.on(0), self.on(1))


class ResetBy(StrEnum):
    """Who asks for a reset: the monitor, or the guest in one of these ways.

    Linux calls them, for its ``reboot=``: pci, kbd, triple, acpi, efi. ``rtas`` is a service of
    pseries' (PAPR's run-time abstraction services, ``system-reboot``).
    """

    MONITOR = "monitor"
    CF9 = "cf9"
    KEYBOARD = "keyboard"
    TRIPLE_FAULT = "triple-fault"
    ACPI = "acpi"
    RTAS = "rtas"
    EFI_COLD = "efi-cold"
    EFI_WARM = "efi-warm"


class BootBy(StrEnum):
    """What made UEFI firmware start the program that runs: its own default, or an entry.

    The default is ``\\EFI\\BOOT\\BOOTX64.EFI``, or as another architecture calls it. The other two
    are variables of UEFI's; the one for the next boot counts once.
    """

    DEFAULT = "default"
    ORDER = "boot-order"
    NEXT = "boot-next"


PROGRAMS = {BootBy.ORDER: "EFI/GUEST/OWN.EFI", BootBy.NEXT: "EFI/GUEST/NEXT.EFI"}
"""The files on our UEFI guest's disk for which it writes boot entries."""


class ShutdownBy(StrEnum):
    """Who ends a guest: the monitor, as pulling the plug does, or the guest itself."""

    MONITOR = "monitor"
    GUEST = "guest"


class Channel(StrEnum):
    """What a migration stream travels through."""

    UNIX = "unix"
    TCP = "tcp"
    FILE = "file"


class Grant(StrEnum):
    """What a sandbox has only where it is asked for: a device of the host's, or a system call."""

    KVM = "kvm"
    USERFAULTFD = "userfaultfd"
    MEMFD = "memfd"


class MigrationEnd(StrEnum):
    """How a migration ends that does not arrive: by who asked for it, by its destination, or its
    stream.
    """

    CANCELLED = "cancelled"
    DESTINATION_KILLED = "destination-killed"
    DESTINATION_REFUSES = "destination-refuses"
    STREAM_CUT = "stream-cut"


class MovesAs(StrEnum):
    """What a guest is doing when it moves; it does the same when it has arrived, and then goes on.
    """

    RUNNING = "running"
    PAUSED = "paused"
    SUSPENDED = "suspended"


class MigrationMode(StrEnum):
    """How a guest gets another QEMU under it; bootmatrix.modes says what each takes."""

    PRECOPY = "precopy"
    POSTCOPY = "postcopy"
    POSTCOPY_AFTER_PASS = "postcopy-after-pass"  # noqa: S105  # no password
    CPR_REBOOT = "cpr-reboot"
    CPR_TRANSFER = "cpr-transfer"
    CPR_EXEC = "cpr-exec"
    SAVEVM = "savevm"
    TLS_X509 = "tls-x509"
    TLS_PSK = "tls-psk"
    MULTIFD = "multifd"
    MULTIFD_4 = "multifd-4"
    MULTIFD_ZLIB = "multifd-zlib"
    MULTIFD_ZSTD = "multifd-zstd"
    MAPPED_RAM = "mapped-ram"
    MAPPED_RAM_MULTIFD = "mapped-ram-multifd"


class Verdict(StrEnum):
    """Expectation and observation, compared. docs/model.md says what each means."""

    PASS = "pass"  # noqa: S105  # no password
    WRONG_FIRMWARE = "wrong-firmware"
    WRONG_DISK = "wrong-disk"
    WRONG_FW_CFG = "wrong-fw-cfg"
    WRONG_VARIABLES = "wrong-variables"
    WRONG_PROGRAM = "wrong-program"
    WRONG_KERNEL = "wrong-kernel"
    WRONG_CMOS = "wrong-cmos"
    WRONG_MEMORY = "wrong-memory"
    WRONG_TABLES = "wrong-tables"
    WRONG_HARDWARE = "wrong-hardware"
    WRONG_TPM = "wrong-tpm"
    EXTRA_RESET = "extra-reset"
    LATE = "late"
    NOT_RESET = "not-reset"
    STOPPED = "stopped"
    NO_BOOT = "no-boot"
    SILENT = "silent"
    BLOCKED = "blocked"
    WITNESS_CONFLICT = "witness-conflict"
    UNSUPPORTED = "unsupported"
    ERROR = "error"


@dataclass(frozen=True)
class Signing:
    """What signs a program for a firmware's Secure Boot: two PEM files, and what opens the key."""

    key: Path
    certificate: Path
    passphrase: str = ""


@dataclass(frozen=True)
class FirmwareBuild:
    """A firmware image: its bytes, its interface, and the version it prints.

    ``size`` is in bytes, ``sha256`` in lower-case hex. ``prints`` is the version text that
    stands in the image and appears in its banner or in SMBIOS, None where the image holds none.

    UEFI firmware is split or combined. Split: ``path``, ``size`` and ``sha256`` are those of the
    executable (CODE), and ``variables`` is the template of the variable store (VARS), to be
    copied for each guest. Combined (``variables`` None): the image begins with the store, which
    takes ``store_size`` bytes, and ``sha256`` is that of the code behind it.

    ``machines`` are globs of the machine types that it is made for, () any; ``features`` those of
    QEMU's docs/interop/firmware.json. ``payload`` is what ``-kernel`` starts behind it: U-Boot
    behind OpenSBI. ``symbols`` is a file that names what is in it (bootmatrix.firmware.symbols).
    UEFI firmware that is not ``in_flash`` is given by ``-bios``, and has no variable store.
    ``signing`` signs guests for the keys that are enrolled in ``variables``, None
    where nobody here can. ``catalogued``: see QemuBuild.
    """

    name: str
    sha256: str
    size: int
    path: Path
    interface: Interface = Interface.BIOS
    prints: str | None = None
    variables: Path | None = None
    machines: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    payload: Path | None = None
    symbols: Path | None = None
    store_size: int = 0
    in_flash: bool = True
    signing: Signing | None = None
    catalogued: bool = False

    def code_of(self, image: bytes) -> bytes:
        """The code in an image of this build's layout: what stays the same while it runs."""
        return image[self.store_size :]

    @property
    def has_keys(self) -> bool:
        """Whether Secure Boot keys are enrolled, so that it refuses what is not signed."""
        return "enrolled-keys" in self.features

    @property
    def needs_smm(self) -> bool:
        """Whether it runs only on a machine with SMM and protected flash."""
        return "requires-smm" in self.features


@dataclass(frozen=True)
class QemuBuild:
    """A QEMU version plus the bytes it came from.

    ``root`` is the host directory of the root file system that holds it, ``binary`` the
    QEMU's path inside that root, ``digest`` the sha256 over the root's contents.
    ``packages`` are (name, version) pairs. ``machines`` are the concrete machine types in the
    order QEMU prints them; ``default_machine`` is the one it takes when no ``-M`` is given.
    ``firmware`` names the firmware build installed beside it, empty where there is none.

    A build from outside its root comes in by ``mounts``, read-only: (directory of the host, path
    inside). ``digest`` is then over both; ``root_name`` and ``root_digest`` are those of the root
    alone, which several builds can share. ``arguments`` are what QEMU needs to find its data,
    ``environment`` (name, value) pairs that it needs beside what an engine sets.

    ``debug_port``: it has the device that firmware prints its debug log to.

    ``catalogued`` tells that all its bytes are packages that we installed ourselves: a sandbox
    in which only such builds ran can be lent to the next cell.

    A ``board`` stands in the place of a QEMU: its name is its version, too, and of its bytes
    nothing is known but those of its environment file. So does a guest that was ``saved`` by a
    QEMU, which need not be here any more: it lies unpacked in that directory (bootmatrix.vault).
    """

    name: str
    version: str
    digest: str
    root: Path
    binary: str = "/usr/bin/qemu-system-x86_64"
    packages: tuple[tuple[str, str], ...] = ()
    machines: tuple[str, ...] = ()
    default_machine: str = ""
    firmware: str = ""
    mounts: tuple[tuple[Path, str], ...] = ()
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    root_name: str = ""
    root_digest: str = ""
    arch: Arch = Arch.X86_64
    catalogued: bool = False
    debug_port: bool = True
    board: BoardSource | None = None
    saved: Path | None = None

    @property
    def place(self) -> tuple[object, ...]:
        """What its sandboxes are made of: QEMUs with the same can run in one."""
        return self.root, self.mounts, self.environment

    @property
    def called(self) -> str:
        """What it is, in words."""
        return f"board {self.name}" if self.board else f"QEMU {self.version}"


@dataclass(frozen=True)
class GitSource:
    """A commit of a git repository of the user's, which is built to be run.

    ``revision`` is whatever git takes for one. ``revisions`` are several, each for a host of its
    own, ranges of tags among them (bootmatrix.matrix.sources). ``options`` change how it is built:
    arguments of QEMU's configure, lines of SeaBIOS' configuration. ``packages`` are Debian's,
    beside those that its build has anyway, and ``toolchain`` the suite that all of them are of, if
    not the catalogue's.
    """

    repository: Path
    revision: str = "HEAD"
    revisions: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    toolchain: str = ""

    def __str__(self) -> str:
        return f"{self.repository} at {self.revision}"


@dataclass(frozen=True)
class QemuSource:
    """Where a QEMU is that the catalogue does not have: by path, root, image, suite or source.

    ``path`` is a program or a directory that holds one, ``data`` a directory that it finds its
    data in first, as with -L; ``root`` a directory with a whole root file system, ``program`` the
    QEMU's path in it; ``image`` a name in the Docker engine; ``suite`` a Debian suite, at
    ``package_version`` of qemu-system-x86 if that is given; ``git`` a commit to be built. ``name``
    is what the user calls it, if anything.
    """

    path: Path | None = None
    image: str | None = None
    suite: str | None = None
    package_version: str | None = None
    name: str | None = None
    data: Path | None = None
    root: Path | None = None
    program: str | None = None
    git: GitSource | None = None

    def __str__(self) -> str:
        if self.git is not None:
            return self.name or str(self.git)
        version = f"={self.package_version}" if self.package_version else ""
        kinds = (("root", self.root), ("image", self.image), ("suite", self.suite))
        places = (f"{kind}:{place}" for kind, place in kinds if place)
        return self.name or f"{self.path or next(places)}{version}"


@dataclass(frozen=True)
class BoardSource(QemuSource):
    """A real board, which stands in the place of a QEMU: a target of a labgrid environment file.

    ``restore``: what its chip held before a cell is written back after it.
    """

    env: Path = Path()
    target: str = "main"
    restore: bool = False

    def __str__(self) -> str:
        return f"{self.env.stem}-{self.target}"


@dataclass(frozen=True)
class SavedSource(QemuSource):
    """A guest that was saved, in the place of the QEMU that has saved it.

    ``vault`` is the directory that it is kept in, ``guest`` its digest there.
    """

    vault: Path = Path()
    guest: str = ""

    def __str__(self) -> str:
        return f"saved-{self.guest[:8]}"


@dataclass(frozen=True)
class FirmwareSource:
    """A firmware that the catalogue does not have.

    ``path`` is an image's file, a ``directory`` of them, or a ``descriptor``: a JSON file as QEMU's
    docs/interop/firmware.json has it. ``variables`` is the template of the variable store beside
    an image that has its code alone, ``symbols`` a file that names what is in it. Without ``flash``
    UEFI firmware is given by ``-bios``, and has no variable store. With ``git`` it is to be built,
    from the repository that ``path`` is.
    """

    path: Path
    directory: bool = False
    name: str | None = None
    variables: Path | None = None
    descriptor: bool = False
    symbols: Path | None = None
    flash: bool = True
    git: GitSource | None = None

    def __str__(self) -> str:
        return self.name or str(self.git or self.path)


@dataclass(frozen=True)
class HostSpec:
    """A host as the matrix file says it: builds by their names in the catalogue, or by source.

    ``firmware`` None means: the one beside its QEMU. A catalogue's name without a version
    (``ovmf-4m``) is the one of that kind beside its QEMU. ``arch`` is what the QEMU emulates.
    ``arguments`` are more words for its command line.
    """

    name: str
    qemu: str | QemuSource
    firmware: str | FirmwareSource | None = None
    arch: Arch = Arch.X86_64
    arguments: tuple[str, ...] = ()


BOARD_MACHINE = "board"
"""The machine type of a host that is a real board."""


@dataclass(frozen=True)
class Host:
    """One QEMU build and the firmware installed beside it: a HostSpec whose builds exist."""

    name: str
    qemu: QemuBuild
    firmware: FirmwareBuild
    arguments: tuple[str, ...] = ()


def role_name(index: int) -> str:
    """The role of a cell's host by its position: source, destination, host-3, host-4, ..."""
    return ("source", "destination")[index] if index < 2 else f"host-{index + 1}"


def role_index(role: str) -> int:
    """The position a role names; the inverse of role_name. Raises ValueError for no role."""
    if role == "source":
        return 0
    if role == "destination":
        return 1
    prefix, _, number = role.partition("-")
    if prefix == "host" and number.isdecimal() and int(number) >= 3:
        return int(number) - 1
    raise ValueError(f"no host role: {role!r}")


@dataclass(frozen=True)
class Known:
    """A declared incompatibility: cells that match ``when`` are expected to end in ``verdict``.

    ``when`` maps a flattened key of the record's cell (``machine``, ``source.qemu``, ...) to
    the glob patterns of which one must match. It labels what running found; it decides nothing.
    """

    when: tuple[tuple[str, tuple[str, ...]], ...]
    verdict: tuple[Verdict, ...]
    reason: str
    link: str | None = None
