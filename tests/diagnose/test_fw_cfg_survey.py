"""What is read of a fw_cfg device, and in which order; on a device of our own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.diagnose import fw_cfg_survey
from bootmatrix.diagnose.fw_cfg_survey import _brought_inside, read_items, survey_all
from bootmatrix.errors import FwCfgError, UserError
from bootmatrix.fw_cfg.client import FwCfg
from bootmatrix.fw_cfg.format import directory
from bootmatrix.fw_cfg.format.directory import Entry
from bootmatrix.fw_cfg.format.option import FwCfgFile
from bootmatrix.model import QemuBuild
from helpers.fw_cfg_device import Device

FILES = {"etc/smi/features-ok": b"\0", "etc/e820": bytes(20), "opt/x": b"hello"}


@pytest.mark.parametrize("features", [1, 3], ids=["by port", "by DMA"])
def test_all_items_are_read_the_fixed_ones_first(features: int) -> None:
    items = read_items(FwCfg(Device(FILES, fixed={5: b"\2\0"}, features=features)))
    files = [item for item in items if not item.fixed]
    assert [(item.name, item.data) for item in files] == list(FILES.items())
    assert items[: -len(files)] == tuple(item for item in items if item.fixed)
    assert next(item.data for item in items if item.key == 5) == b"\2\0"


def test_a_writable_item_is_found_and_is_what_it_was() -> None:
    device = Device(FILES, writable=["opt/x"])
    items = {item.name: item for item in read_items(FwCfg(device))}
    assert items["opt/x"].writable
    assert not items["etc/e820"].writable
    assert device.items[items["opt/x"].key] == b"hello"


def test_what_makes_qemu_decide_is_selected_last(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    fw_cfg = FwCfg(Device(FILES, features=1))
    read = fw_cfg.read_by_port

    def noted(key: int, size: int) -> bytes:
        asked.append(key)
        return read(key, size)

    monkeypatch.setattr(fw_cfg, "read_by_port", noted)
    read_items(fw_cfg)
    assert asked[-1] == 0x20, "etc/smi/features-ok, which stands first in the directory"


def test_a_device_that_offers_more_than_a_guest_has_memory_for_is_not_read() -> None:
    lies = directory.build([Entry("opt/x", 0x20, 1 << 30)])
    with pytest.raises(FwCfgError, match="offers 1073741824 bytes, more than"):
        read_items(FwCfg(Device(raw_directory=lies)))


def test_files_are_brought_to_where_qemu_can_read_them(tmp_path: Path) -> None:
    mine, shown = tmp_path / "mine", tmp_path / "shown"
    mine.write_bytes(b"data")
    mine.chmod(0o600)
    shown.mkdir()
    given = [FwCfgFile("opt/a", string="s"), FwCfgFile("opt/b", file=str(mine))]
    same, brought = _brought_inside(given, shown)
    assert same == given[0]
    assert brought.file == "/tmp/bootmatrix/file-1"
    assert (shown / "file-1").read_bytes() == b"data"
    assert (shown / "file-1").stat().st_mode & 0o777 == 0o644


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = FwCfgFile("opt/b", file=str(tmp_path / "none"))
    with pytest.raises(UserError, match="fw_cfg file opt/b: No such file or directory"):
        list(_brought_inside([missing], tmp_path))


def test_a_qemu_without_the_machine_type_is_not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fw_cfg_survey, "survey",
                        lambda engine, build, machine, setup: build.name)
    builds = [QemuBuild(name, "1", name, Path(), machines=machines)
              for name, machines in (("a", ("pc",)), ("b", ()), ("c", ("pc", "q35")))]
    engine: Any = SimpleNamespace()
    offers: list[Any] = survey_all(engine, builds, "pc")
    assert offers == ["a", None, "c"]
    assert survey_all(engine, [], "pc") == []
