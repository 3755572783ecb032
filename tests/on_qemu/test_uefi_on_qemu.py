"""What docs/uefi.md says of code and variables, on real QEMUs with OVMF, and that it can fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.engines import Engine
from bootmatrix.guests.qcow2 import image as qcow2
from bootmatrix.guests.secure_boot import enrolled_sum
from bootmatrix.lab import Lab
from bootmatrix.machines.qemu.machine import QemuMachine
from bootmatrix.model import Disk, FirmwareSource, HostSpec, Verdict
from bootmatrix.nvram import Part, inspect
from bootmatrix.policies import Policy
from bootmatrix.policies.base import Mechanism, Swap
from bootmatrix.policies.machine_owned import MachineOwned
from bootmatrix.records.model import Record
from bootmatrix.run.guest import Guest
from bootmatrix.run.runner import Runner
from bootmatrix.run.steps import DEEDS
from bootmatrix.steps.library import LIBRARY, parse
from bootmatrix.witnesses.observation import StepObserved

SECONDS = 120.0
"""Patience: OVMF boots in 2 to 4 s on an idle machine."""

# Upstream versions; records have the whole names, which change with each security update.
OVMF_2020, OVMF_2022, OVMF_2025 = "ovmf-4m-2020.11", "ovmf-4m-2022.11", "ovmf-4m-2025.02"


def host(name: str, qemu: str = "debian-sid", **firmware: str | FirmwareSource) -> HostSpec:
    return HostSpec(name, qemu, firmware.get("firmware", "ovmf-4m"))


def cell(hosts: list[HostSpec], policy: str, steps: str | list[Any]) -> Cell:
    """A cell with a scenario of the library, or one of these steps."""
    scenario = LIBRARY[steps] if isinstance(steps, str) else parse("own", steps)
    return Cell(tuple(hosts), "pc-q35-5.2", Policy(policy), scenario, Disk.VIRTIO, seconds=SECONDS)


# Two builds that print the same: what ran is told by the bytes alone.
TWINS = [host("old", firmware=OVMF_2020), host("new", firmware=OVMF_2022)]


@pytest.fixture(scope="module")
def sharing(
    store: ImageStore, bubblewrap: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    """Whose cells begin together where they begin alike."""
    with Runner(Builds(store), bubblewrap, tmp_path_factory.mktemp("shared"), share=True) as runner:
        yield runner


def names(store: ImageStore, *firmware: str) -> list[str]:
    """What records call these builds."""
    return [store.firmware(name).name for name in firmware]


def variables(record: Record, key: str) -> list[Any]:
    boots: Any = record["boots"]
    return [boot["variables"][key] for boot in boots]


def before_the_next_start(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """``change`` what the guest has on its host, as soon as it is shut down."""
    shutdown = DEEDS["shutdown"]

    def changed(guest: Guest, *args: Any) -> StepObserved:
        vm = guest.able(QemuMachine).vm
        here = vm.scratch.cell.path / vm.name.partition("-")[2]
        seen = shutdown(guest, *args)
        change(here)
        return seen

    monkeypatch.setitem(DEEDS, "shutdown", changed)


@pytest.mark.slow
def test_machine_owned_gives_new_code_at_the_reset_and_variables_are_kept_and_written_once(
    sharing: Runner, store: ImageStore
) -> None:
    """Variables are written once for all cells that share them: the other's code stays."""
    old, new = names(store, OVMF_2020, OVMF_2022)
    # A second reset after it is in matrices/uefi.yaml: boot-next-migrate-reset, of each policy.
    wanted = [cell(TWINS, policy, "variables-migrate-reset") for policy in (
        "stock", "machine-owned")]
    records = [sharing.run(one) for one in wanted]
    for record, code in zip(records, ([old, old], [old, new]), strict=True):
        assert record["verdict"] == Verdict.PASS, record["reason"]
        assert record["steps"][2]["rom"] == old, "not before the reset"
        assert [boot["rom"] for boot in record["boots"]] == code
        assert [boot["told_by"] for boot in record["boots"]] == ["rom"] * 2
        assert variables(record, "boots") == [1, 2]
        assert variables(record, "value") == ["", "boot-1"]
        assert record["shared"] == records[0]["shared"]
        assert record["shared"]["steps"] == 2


def test_guest_owned_takes_code_and_variables_along(lab: Lab, store: ImageStore) -> None:
    old, new = "debian-bookworm", "debian-sid"
    guest = lab.guest(old, new, machine="pc-q35-5.2", policy="guest-owned", disk="virtio",
                      firmware={old: OVMF_2025, new: "ovmf-4m"}, seconds=SECONDS)  # fmt: skip
    build = store.firmware(OVMF_2025)
    assert build.variables is not None

    def nvram(role: str) -> dict[Part, bytes]:
        seen = inspect(guest.vm.scratch.cell.path / role / "nvram.bin")
        assert seen.problems == ()
        return {part: seen.contents[part] for part in (Part.FIRMWARE, Part.VARIABLES)}

    assert guest.start().firmware == build.name
    first = nvram("source")
    assert first[Part.FIRMWARE] == build.path.read_bytes()
    assert first[Part.VARIABLES] != build.variables.read_bytes(), "it has counted its boot there"
    guest.shutdown()
    guest.start()
    mine = nvram("source")
    assert mine[Part.FIRMWARE] == first[Part.FIRMWARE]
    assert mine[Part.VARIABLES] != first[Part.VARIABLES]
    moved = guest.migrate(new)
    assert moved.firmware == build.name
    assert moved.observed.nvram_equal is True
    assert nvram("destination") == mine
    again = guest.reset()
    assert again.firmware == build.name
    assert again.observed.boot is not None
    assert again.observed.boot.up is not None
    assert again.observed.boot.up.boot == 3


@pytest.mark.thorough  # variables that are lost are in the test of those that were wiped, too
def test_a_move_loses_the_hosts_variables(runner: Runner, store: ImageStore) -> None:
    """The guest's own are kept, which is a cell of matrices/uefi.yaml."""
    # The newest two, which boot in half the time of those before.
    old, new = store.firmware(OVMF_2025).name, store.beside("debian-sid", "ovmf-4m").name
    hosts = [host("old", firmware=OVMF_2025), host("new")]
    record = runner.run(cell(hosts, "stock", "variables-move"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [boot["rom"] for boot in record["boots"]] == [old, new]
    assert variables(record, "lost") == [False, True]
    assert variables(record, "boots") == [1, 1]
    assert variables(record, "value") == ["", ""]
    assert "its variables are lost" in record["reason"]


def with_variables_of_another_layout(runner: Runner, store: ImageStore, suite: str) -> Record:
    code = store.beside(f"debian-{suite}", "ovmf-4m")
    template = store.beside("debian-bookworm", "ovmf-2m").variables
    mixed = host("mixed", firmware=FirmwareSource(code.path, variables=template))
    return runner.run(cell([mixed], "stock", ["start", "write-variable", "shutdown", "start"]))


@pytest.mark.slow
def test_code_of_one_layout_with_variables_of_another(runner: Runner, store: ImageStore) -> None:
    record = with_variables_of_another_layout(runner, store, "bookworm")
    assert record["verdict"] == Verdict.WRONG_VARIABLES, record["reason"]
    assert record["reason"].startswith("boot 2 (start on source): the guest's variables are lost: ")
    assert record["reason"].endswith(
        "; the code is of OVMF's 4 MiB layout (3653632 bytes), the variables of the 2 MiB layout "
        "(131072 bytes): the flash keeps no variables"
    )


@pytest.mark.thorough
def test_without_a_store_newer_code_keeps_variables_on_the_guests_disk(
    runner: Runner, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OVMF then emulates a store in memory, and copies it to the file NvVars of the disk's FAT.
    found: list[tuple[bool, bool]] = []

    def look(files: Path) -> None:
        disk = (files.parent / "disk.img").read_bytes()
        store_of_the_flash = (files / "vars.fd").read_bytes()
        found.append((b"NVVARS" in disk, "BootCount".encode("utf-16-le") in store_of_the_flash))

    before_the_next_start(monkeypatch, look)
    record = with_variables_of_another_layout(runner, store, "sid")
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert found == [(True, False)]
    assert "4 MiB layout" in record["layout_mismatch"], "named all the same"


SMALL, LARGE = [
    HostSpec(kind, "debian-bookworm", kind) for kind in ("ovmf-2m", "ovmf-4m")
]  # fmt: skip


@pytest.mark.thorough
def test_a_migration_to_another_layout_is_refused_with_both_sizes(runner: Runner) -> None:
    record = runner.run(cell([SMALL, LARGE], "stock", "migrate-reset"))
    assert record["verdict"] == Verdict.BLOCKED
    assert record["reason"].startswith(
        "migrate: ram-block-size: Size mismatch: system.flash0: 0x1e0000 != 0x37c000"
    )


@pytest.mark.thorough  # a refusal with both sizes is that of the migration, too
def test_a_swap_to_another_layout_is_refused_with_both_sizes(runner: Runner) -> None:
    record = runner.run(cell([LARGE, SMALL], "reread", "host-upgrade-reset"))
    assert record["verdict"] == Verdict.BLOCKED
    assert record["reason"].startswith("reset: rom-size: ")
    assert "0x1e0000" in record["reason"]
    assert "0x37c000" in record["reason"]


# ---- planted failures ---------------------------------------------------------------------------


@pytest.mark.thorough  # of SeaBIOS it is cheap: test_verdicts_on_qemu.py
def test_code_that_was_not_swapped_is_told_by_its_bytes(
    sharing: Runner, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = names(store, OVMF_2020, OVMF_2022)
    monkeypatch.setattr(MachineOwned, "how", Mechanism(nvram=False, swap=Swap.NOTHING))
    record = sharing.run(cell(TWINS, "machine-owned", "variables-migrate-reset"))
    assert record["verdict"] == Verdict.WRONG_FIRMWARE
    assert record["reason"] == f"boot 2 (reset on destination): expected {new}, seen {old}"
    assert record["boots"][1]["told_by"] == "rom"
    assert (record["boots"][1]["smbios"] or [])[1:] == ["0.0.0"]


@pytest.mark.thorough
def test_variables_that_were_wiped_are_missed(
    store: ImageStore, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = store.beside("debian-sid", "ovmf-4m").variables
    assert template is not None

    def wipe(files: Path) -> None:
        shutil.copyfile(template, files / "vars.fd")

    before_the_next_start(monkeypatch, wipe)
    steps = ["start", "write-variable", "shutdown", "start"]
    record = runner.run(cell([host("sid")], "stock", steps))
    assert record["verdict"] == Verdict.WRONG_VARIABLES
    assert record["reason"] == (
        "boot 2 (start on source): the guest's variables are lost: boot counter 1 (expected 2), "
        "value '' (expected 'boot-1'), boot entry '' (expected 'bootmatrix boot-1')"
    )


# ---- boot entries --------------------------------------------------------------------------------


def programs(record: Record) -> list[Any]:
    boots: Any = record["boots"]
    return [boot["program"]["booted_by"] for boot in boots]


def forget_boot_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, while the guest is down, and nothing else of the store."""
    def forget(files: Path) -> None:
        store = (files / "vars.fd").read_bytes()
        order, other = ("BootOrder\0".encode("utf-16-le"), "BootOther\0".encode("utf-16-le"))
        assert order in store
        (files / "vars.fd").write_bytes(store.replace(order, other))

    before_the_next_start(monkeypatch, forget)


@pytest.mark.thorough
def test_a_boot_entry_that_is_gone_is_missed(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_boot_order(monkeypatch)
    steps = ["start", "write-boot-entry", "shutdown", "start"]
    record = runner.run(cell([host("sid")], "stock", steps))
    assert programs(record) == ["default"] * 2
    assert variables(record, "boots") == [1, 2]
    assert record["verdict"] == Verdict.WRONG_PROGRAM
    assert record["reason"] == (
        "boot 2 (start on source): the firmware has started \\EFI\\BOOT\\BOOTX64.EFI, "
        "expected the guest's entry in BootOrder")


@pytest.mark.thorough
def test_a_guests_boot_entries_are_used_and_one_that_is_gone_is_missed(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_boot_order(monkeypatch)
    hosts = [host("old", firmware=OVMF_2025), host("new")]
    steps = ["start", "write-boot-entry", {"write-boot-entry": {"by": "boot-next"}}, "migrate",
             "reset", "reset", "shutdown", "start"]
    record = runner.run(cell(hosts, "stock", steps))
    assert programs(record) == ["default", "boot-next", "boot-order", "default"]
    assert variables(record, "boots") == [1, 2, 3, 4]
    assert record["boots"][1]["program"]["path"] == "\\EFI\\GUEST\\NEXT.EFI"
    assert record["verdict"] == Verdict.WRONG_PROGRAM
    assert record["reason"] == (
        "boot 4 (start on destination): the firmware has started \\EFI\\BOOT\\BOOTX64.EFI, "
        "expected the guest's entry in BootOrder")


# ---- by -bios, and in qcow2 ----------------------------------------------------------------------


@pytest.mark.parametrize("steps", [
    ["start"], pytest.param(["start", "reset"], marks=pytest.mark.thorough)], ids=len)
def test_uefi_firmware_by_bios_runs_and_nothing_is_expected_of_its_variables(
    runner: Runner, store: ImageStore, tmp_path: Path, steps: list[str]
) -> None:
    build = store.beside("debian-sid", "ovmf-combined")
    packed = tmp_path / "OVMF.qcow2"
    packed.write_bytes(qcow2(build.path.read_bytes()))
    given = host("bios", firmware=FirmwareSource(packed, flash=False))
    record = runner.run(cell([given], "stock", steps))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [boot["rom"] for boot in record["boots"]] == [build.name] * len(steps)
    assert [boot["variables"] for boot in record["boots"]] == [None] * len(steps)
    argv = record["qemus"][0]["argv"]
    assert "-bios" in argv
    assert not any("pflash" in word for word in argv)


# ---- Secure Boot --------------------------------------------------------------------------------


@pytest.mark.slow
def test_secure_boot_keeps_its_keys_and_a_changed_one_is_seen(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_owner_of_kek(files: Path) -> None:
        # Behind the variable's name: EFI_SIGNATURE_LIST, 28 bytes, then the owner's GUID.
        store = bytearray((files / "vars.fd").read_bytes())
        name = "KEK\0".encode("utf-16-le")
        assert store.count(name) == 1
        store[store.index(name) + len(name) + 28] ^= 0xFF
        (files / "vars.fd").write_bytes(store)

    before_the_next_start(monkeypatch, change_owner_of_kek)
    hosts = [HostSpec(name, "debian-sid", "ovmf-4m-snakeoil") for name in ("here", "there")]
    # That a reset keeps them is seen where a guest enrols its own, below.
    steps = ["start", "migrate", "shutdown", {"start": {"on": "destination"}}]
    record = runner.run(cell(hosts, "stock", steps))
    assert variables(record, "secure_boot") == ["1"] * 2
    first, changed = variables(record, "keys")
    assert first != changed
    assert record["verdict"] == Verdict.WRONG_VARIABLES
    assert record["reason"] == (
        f"boot 2 (start on destination): keys {changed} (at the store's first boot: {first})"
    )


def test_keys_that_nobody_here_can_sign_for_are_unsupported(runner: Runner) -> None:
    hosts = [HostSpec("sid", "debian-sid", "ovmf-4m-ms")]
    record = runner.run(cell(hosts, "stock", "cold-boot"))
    assert record["verdict"] == Verdict.UNSUPPORTED
    assert "nobody here has what signs for them" in record["reason"]


@pytest.mark.slow
def test_a_guest_enrols_keys_and_finds_them_again(runner: Runner, store: ImageStore) -> None:
    secure = store.beside("debian-sid", "ovmf-4m-secure")
    assert secure.signing is not None
    hosts = [HostSpec(name, "debian-sid", "ovmf-4m-secure") for name in ("here", "there")]
    record = runner.run(cell(hosts, "stock", "keys-migrate-reset"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert variables(record, "setup_mode") == ["1", "0"]
    assert variables(record, "secure_boot") == ["0", "1"]
    assert variables(record, "keys") == ["00000000", enrolled_sum(secure.signing)]
    assert record["steps"][1]["told"]["result"] == "ok"
