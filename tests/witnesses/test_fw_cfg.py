"""What fw_cfg tells the guest of the host that it is on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.steps.plan import Expected
from bootmatrix.verdict import judge
from bootmatrix.witnesses import fw_cfg
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.judging import (
    HERE,
    KNOWN,
    MIGRATE,
    OLD,
    START,
    boot,
    migrated,
    planned,
    started,
    up,
)


def labelled(plan: tuple[Expected, ...]) -> tuple[Expected, ...]:
    return tuple(replace(each, label=f"host {each.host}") for each in plan)


def on(line: ProbeLine, host: str, fw_cfg: str = "QEMU") -> ProbeLine:
    return replace(line, fw_cfg=fw_cfg, features=3 if fw_cfg else 0, host=host)


@pytest.mark.parametrize(("line", "words"), [
    (on(up(OLD), "host 0"), None),
    (up(OLD), None),  # it does not tell
    (on(up(OLD), "host 1"), "tells the guest that it is on 'host 1', it runs on 'host 0'"),
    (on(up(OLD), ""), "tells the guest that it is on '', it runs on 'host 0'"),
    (on(up(OLD), "", fw_cfg=""), "the guest finds no fw_cfg"),
])
def test_fw_cfg_at_a_boot(line: ProbeLine, words: str | None) -> None:
    seen = started(replace(boot(OLD), up=line))
    judgement = judge(labelled(planned(START)), [seen], KNOWN)
    if words is None:
        assert judgement.verdict is Verdict.PASS
    else:
        assert judgement.verdict is Verdict.WRONG_FW_CFG
        assert judgement.reason.startswith("boot 1 (start on source): ")
        assert words in judgement.reason


def test_fw_cfg_after_a_migration() -> None:
    def seen(host: str) -> list[StepObserved]:
        return [started(), migrated(answer=on(HERE, host))]

    plan = labelled(planned(START, MIGRATE))
    assert judge(plan, seen("host 1"), KNOWN).verdict is Verdict.PASS
    judgement = judge(plan, seen("host 0"), KNOWN)
    assert judgement.verdict is Verdict.WRONG_FW_CFG
    assert judgement.reason == (
        "migrate: fw_cfg tells the guest that it is on 'host 0', it runs on 'host 1'"
    )


def test_what_is_in_the_record() -> None:
    assert fw_cfg.row(on(HERE, "host 1")) == {
        "fw_cfg": {"signature": "QEMU", "features": 3, "host": "host 1"}}
    assert fw_cfg.row(HERE) == {"fw_cfg": None}
    assert fw_cfg.row(None) == {"fw_cfg": None}
