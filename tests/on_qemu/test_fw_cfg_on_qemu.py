"""fw_cfg on four real QEMUs: what they offer, what they refuse, and invariant 9."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.diagnose.fw_cfg_survey import Open, opened, survey, survey_all
from bootmatrix.engines import Engine
from bootmatrix.errors import FwCfgError, QemuError, QtestError, UserError
from bootmatrix.fw_cfg import baseline
from bootmatrix.fw_cfg.client import FwCfg
from bootmatrix.fw_cfg.contract import ChangeKind, Impact, Offer, Setup, compare, worst
from bootmatrix.fw_cfg.format import acpi, keys
from bootmatrix.fw_cfg.format.option import FwCfgFile

BUILDS = ("debian-bullseye", "debian-bookworm", "debian-trixie", "debian-sid")
MACHINES = ("pc-i440fx-5.2", "pc-q35-5.2")

Opener = Callable[..., contextlib.AbstractContextManager[Open]]


@pytest.fixture
def open_one(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Opener:
    @contextlib.contextmanager
    def one(build: str = "debian-sid", machine: str = "pc-q35-5.2", *devices: str,
            files: tuple[FwCfgFile, ...] = ()) -> Iterator[Open]:
        with opened(bubblewrap, store.qemu(build), machine, Setup(64, devices), tmp_path,
                    Deadline.after(60), files) as there:
            yield there

    return one


@pytest.fixture(scope="module")
def offers(store: ImageStore, bubblewrap: Engine) -> dict[str, dict[str, Offer]]:
    """What each QEMU offers for each of the two machine types that all have."""
    found: dict[str, dict[str, Offer]] = {}
    for machine in MACHINES:
        surveyed = survey_all(bubblewrap, [store.qemu(name) for name in BUILDS], machine)
        found[machine] = {offer.qemu: offer for offer in surveyed if offer}
    assert all(set(of_machine) == set(BUILDS) for of_machine in found.values())
    return found


@pytest.mark.parametrize("build", BUILDS)
def test_ports_and_dma_agree_on_every_item(open_one: Opener, build: str) -> None:
    with open_one(build) as there:
        fw_cfg = there.fw_cfg
        assert fw_cfg.has_dma
        entries = [entry for entry in fw_cfg.directory() if entry.size <= 16384]
        assert {"etc/e820", "etc/table-loader"} <= {entry.name for entry in entries}
        by_dma = fw_cfg.read_all([(entry.key, entry.size) for entry in entries])
        by_port = [fw_cfg.read_by_port(entry.key, entry.size) for entry in entries]
        assert by_dma == by_port


@pytest.mark.parametrize("build", BUILDS)
def test_dma_needs_a_twentieth_of_the_round_trips(open_one: Opener, build: str) -> None:
    with open_one(build) as there:
        qtest, fw_cfg = there.qtest, there.fw_cfg
        wanted = [(entry.key, entry.size) for entry in fw_cfg.directory()]

        def round_trips(read: Callable[[], Any]) -> int:
            before = qtest.requests
            read()
            return qtest.requests - before

        by_dma = round_trips(lambda: fw_cfg.read_all(wanted))
        by_port = round_trips(lambda: [fw_cfg.read_by_port(*one) for one in wanted[-3:]])
        assert by_port > 20 * by_dma  # even if all are read one way, and three the other


@pytest.mark.parametrize("build", BUILDS)
def test_reading_all_waits_for_qemu_a_few_times(open_one: Opener, build: str) -> None:
    with open_one(build) as there:
        before = there.qtest.waits
        there.fw_cfg.read_all([(entry.key, entry.size) for entry in there.fw_cfg.directory()])
        assert there.qtest.waits - before <= 4


@pytest.mark.parametrize("build", BUILDS)
def test_known_values(offers: dict[str, dict[str, Offer]], build: str) -> None:
    offer = offers["pc-q35-5.2"][build]
    files, fixed = offer.files(), offer.fixed()
    assert fixed[keys.SIGNATURE].data == b"QEMU"
    assert fixed[keys.ID].decoded()["bits"] == ["traditional", "dma"]
    assert fixed[keys.RAM_SIZE].decoded() == 128 << 20
    assert (fixed[0x05].decoded(), fixed[0x0F].decoded()) == (1, 1)
    assert files["etc/e820"].decoded()["0x0"] == "0x8000000 RAM"
    assert files["etc/smbios/smbios-anchor"].decoded()["entry_point"] == "32-bit"
    assert files["etc/smbios/smbios-tables"].decoded()["type 1 System"]["version"] == "pc-q35-5.2"
    assert {"DSDT", "FACP", "APIC", "HPET", "RSDT"} <= set(files["etc/acpi/tables"].decoded())
    assert "cpu-hotplug" in files["etc/smi/supported-features"].decoded()["bits"]
    assert files["etc/smi/requested-features"].writable
    assert not files["etc/e820"].writable
    for item in offer.items:
        item.decoded()  # nothing that a real QEMU offers is malformed


@pytest.mark.parametrize("machine", MACHINES)
def test_the_script_checks_exactly_the_tables_that_are_found(
    offers: dict[str, dict[str, Offer]], machine: str
) -> None:
    """Two witnesses of where tables begin: their own lengths, and the script's checksums."""
    for offer in offers[machine].values():
        files = offer.files()
        script = acpi.loader(files["etc/table-loader"].data)["add-checksum etc/acpi/tables"]
        found = [f"{offset:#x}+{len(raw):#x}"
                 for offset, raw in acpi.split(files["etc/acpi/tables"].data)
                 if raw[:4] != b"FACS"]  # it has no checksum
        assert sorted(place.split(" ")[0] for place in script) == sorted(found)


def test_the_same_qemu_offers_the_same(
    store: ImageStore, bubblewrap: Engine, offers: dict[str, dict[str, Offer]]
) -> None:
    again = survey(bubblewrap, store.qemu("debian-sid"), "pc-q35-5.2")
    assert again == offers["pc-q35-5.2"]["debian-sid"]


# ---- invariant 9 ------------------------------------------------------------------------------

PAIRS = [(machine, old, new) for machine in MACHINES for old, new in combinations(BUILDS, 2)]


@pytest.mark.parametrize(("machine", "old", "new"), PAIRS)
def test_an_old_reader_finds_what_it_found(
    offers: dict[str, dict[str, Offer]], machine: str, old: str, new: str
) -> None:
    differences = compare(offers[machine][old], offers[machine][new])
    assert differences  # no two of these QEMUs offer quite the same: the comparison sees that
    assert worst(differences) is not Impact.BREAKS, differences


@pytest.mark.parametrize(("machine", "old", "new"), PAIRS)
def test_what_the_old_firmware_names_is_there(
    store: ImageStore, offers: dict[str, dict[str, Offer]], machine: str, old: str, new: str
) -> None:
    """The names come from the old SeaBIOS image itself: what it looks up stands there as text."""
    image = store.firmware(store.qemu(old).firmware).path.read_bytes()
    before, after = offers[machine][old].files(), offers[machine][new].files()
    looked_up = [name for name in before if name.encode() + b"\0" in image]
    assert {"etc/e820", "etc/table-loader", "bootorder"} <= set(looked_up)
    for name in looked_up:
        assert name in after
        assert bool(after[name].data) == bool(before[name].data)


def test_a_broken_contract_would_be_seen(
    store: ImageStore, bubblewrap: Engine, offers: dict[str, dict[str, Offer]]
) -> None:
    """Real offers that do break a reader: another board, an older machine, an older QEMU."""
    other = offers["pc-i440fx-5.2"]["debian-sid"]
    found = compare(offers["pc-q35-5.2"]["debian-sid"], other)
    assert {d.item for d in found if d.impact is Impact.BREAKS} == {
        "etc/smi/features-ok", "etc/smi/requested-features", "etc/smi/supported-features"}
    without_dma = survey(bubblewrap, store.qemu("debian-bullseye"), "pc-i440fx-2.4")
    newer = survey(bubblewrap, store.qemu("debian-bullseye"), "pc-i440fx-2.9")
    lost = [d for d in compare(newer, without_dma) if d.item == "id"]
    assert [(d.impact, d.details) for d in lost] == [(Impact.BREAKS, ("dma",))]


def test_a_real_contract_that_is_kept_one_way_only(store: ImageStore, bubblewrap: Engine) -> None:
    """microvm has no versions, and 7.2 brought it a file more."""
    builds = [store.qemu(name) for name in BUILDS[:2]]
    old, new = survey_all(bubblewrap, builds, "microvm")
    assert old
    assert new
    forward = {(d.item, d.change, d.impact) for d in compare(old, new)}
    assert ("etc/fdt", ChangeKind.APPEARED, Impact.HARMLESS) in forward
    assert ("etc/table-loader", ChangeKind.MOVED_KEY, Impact.HARMLESS) in forward
    assert worst(compare(old, new)) is not Impact.BREAKS
    backward = [(d.item, d.change) for d in compare(new, old) if d.impact is Impact.BREAKS]
    assert backward == [("etc/fdt", ChangeKind.VANISHED)]


# ---- writing, errors --------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
def test_writing_by_dma(open_one: Opener, build: str) -> None:
    with open_one(build) as there:
        fw_cfg = there.fw_cfg
        found = {entry.name: entry for entry in fw_cfg.directory()}
        asked = found["etc/smi/requested-features"]
        fw_cfg.write(asked.key, (1).to_bytes(8, "little"))
        fw_cfg.write(asked.key, b"\x80", offset=7)
        assert fw_cfg.read(asked.key, 8) == b"\1\0\0\0\0\0\0\x80"
        with pytest.raises(FwCfgError, match="DMA error while writing"):
            fw_cfg.write(asked.key, b"xx", offset=7)  # beyond its end
        with pytest.raises(FwCfgError, match="DMA error while writing"):
            fw_cfg.write(found["etc/e820"].key, b"x")  # read-only
        assert fw_cfg.read(asked.key, 8) == b"\1\0\0\0\0\0\0\x80"


@pytest.mark.parametrize("build", BUILDS)
def test_features_are_negotiated_at_the_read_of_features_ok(open_one: Opener, build: str) -> None:
    """Why a survey reads that item last, and from a QEMU that is thrown away."""
    with open_one(build) as there:
        fw_cfg = there.fw_cfg
        key = {entry.name: entry.key for entry in fw_cfg.directory()}
        fw_cfg.write(key["etc/smi/requested-features"], (1 << 40).to_bytes(8, "little"))
        assert fw_cfg.read(key["etc/smi/features-ok"], 1) == b"\0"
        fw_cfg.write(key["etc/smi/requested-features"], (1).to_bytes(8, "little"))
        assert fw_cfg.read(key["etc/smi/features-ok"], 1) == b"\1"


@pytest.mark.parametrize("build", BUILDS)
def test_dma_to_where_nothing_is(open_one: Opener, build: str) -> None:
    with open_one(build) as there:
        nowhere = 0xF000_0000_0000
        select_and_read = keys.SIGNATURE << 16 | 1 << 3 | 1 << 1
        assert there.fw_cfg.transfer(select_and_read, 4, nowhere) & 1
        assert there.fw_cfg.transfer(select_and_read, 4, 2 << 20) == 0
        assert there.qtest.read(2 << 20, 4)() == b"QEMU"


@pytest.mark.parametrize("build", BUILDS)
def test_files_of_a_user(open_one: Opener, tmp_path: Path, build: str) -> None:
    large = bytes(range(256)) * 4096
    (tmp_path / "large").write_bytes(large)
    longest = "opt/" + "x" * 51
    files = (FwCfgFile(longest, string="it's, 1"),
             FwCfgFile("opt/org.example/large", file=str(tmp_path / "large")))
    with open_one(build, files=files) as there:
        found = {entry.name: entry for entry in there.fw_cfg.directory()}
        assert there.fw_cfg.read(found[longest].key, found[longest].size) == b"it's, 1"
        entry = found["opt/org.example/large"]
        assert entry.size == len(large)
        assert there.fw_cfg.read(entry.key, entry.size) == large
        small = FwCfg(there.qtest, buffer=100_000)  # in many pieces
        assert small.read(entry.key, entry.size) == large


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("options", "said"), [
    (("-fw_cfg", "name=opt/" + "x" * 52 + ",string=s"), "name too long"),
    (("-fw_cfg", "name=opt/x,string="), "exactly one of file"),
    (("-fw_cfg", "name=opt/x,string=a", "-fw_cfg", "name=opt/x,string=b"), "duplicate"),
])
def test_qemu_refuses_what_the_builder_refuses(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path, build: str,
    options: tuple[str, ...], said: str,
) -> None:
    """The rules of -fw_cfg, asked of the QEMUs that make them."""
    log = tmp_path / "log"
    with bubblewrap.sandbox(store.qemu(build), tmp_path) as sandbox:
        argv = [store.qemu(build).binary, "-nodefaults", "-display", "none", "-S",
                "-machine", "pc-q35-5.2,accel=tcg", *options]
        assert sandbox.launch(argv, log).wait(Deadline.after(60)) != 0
    assert said in log.read_text()


def test_a_file_that_is_not_there(open_one: Opener, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{tmp_path}/none: fw_cfg file opt/x: No such file"), \
            open_one(files=(FwCfgFile("opt/x", file=str(tmp_path / "none")),)):
        pass


def test_a_machine_without_fw_cfg(open_one: Opener) -> None:
    with pytest.raises(FwCfgError, match="no fw_cfg device at port 0x510"), \
            open_one("debian-sid", "none"):
        pass


def test_a_qemu_that_refuses_its_devices(open_one: Opener) -> None:
    with pytest.raises(QemuError, match="not a valid device model name"), \
            open_one("debian-sid", "pc-q35-5.2", "no-such-device"):
        pass


def test_a_qemu_that_dies_mid_read(open_one: Opener) -> None:
    with open_one() as there:
        there.qemu.process.kill()
        with pytest.raises(QtestError, match="debian-sid: qtest: the connection") as caught:
            there.fw_cfg.read_by_port(keys.SIGNATURE, 4)
        assert "\n" not in str(caught.value)


def test_devices_with_writable_items(store: ImageStore, bubblewrap: Engine) -> None:
    setup = Setup(128, ("vmcoreinfo", "vmgenid,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"))
    for name in BUILDS:
        files = survey(bubblewrap, store.qemu(name), "pc-q35-5.2", setup).files()
        assert files["etc/vmgenid_addr"].writable
        assert files["etc/vmcoreinfo"].writable
        assert files["etc/vmgenid_guid"].decoded() == "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"


def test_a_machine_type_that_a_qemu_lacks(store: ImageStore, bubblewrap: Engine) -> None:
    builds = [store.qemu(name) for name in BUILDS]
    found = survey_all(bubblewrap, builds, "pc-q35-7.2")
    assert [offer and offer.qemu for offer in found] == [None, *BUILDS[1:]]


def test_a_real_baseline(offers: dict[str, dict[str, Offer]]) -> None:
    offer = offers["pc-i440fx-5.2"]["debian-trixie"]
    text = baseline.dumps(offer)
    assert baseline.loads(text, Path("b")) == offer
    assert len(text) < 40_000  # for a repository
    assert len(text.splitlines()) == len(offer.items) + 2


def test_in_docker_too(store: ImageStore, engine: Engine) -> None:
    offer = survey(engine, store.qemu("debian-sid"), "pc-i440fx-5.2")
    assert offer.fixed()[keys.SIGNATURE].data == b"QEMU"
