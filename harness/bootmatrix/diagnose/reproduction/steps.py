"""What a reproduction script does in each step that changes where the guest or its files are.

What others do stands in their files in ``bootmatrix.steps``, as ``by_hand``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bootmatrix.diagnose.reproduction.parts import variable
from bootmatrix.diagnose.reproduction.script import STAGED, ScriptedQemu, ShellScript
from bootmatrix.model import MovesAs, ResetBy, ShutdownBy, role_name
from bootmatrix.modes import MODES, Way
from bootmatrix.records.words import quoted
from bootmatrix.steps.base import Step
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.migration_begins import MigrationBegins
from bootmatrix.steps.reset import KEYS, Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.steps.upgrade_nvram import UpgradeNvram


def write(script: ShellScript, number: int, step: Step, following: Step | None) -> None:
    """Add one step of the scenario to the script."""
    script.add("", f"# ---- step {number}: {step.describe(script.hosts)}")
    if step.kind in _WRITERS:
        _WRITERS[step.kind](script, step, following)
    else:
        script.add(*step.by_hand(script.process.name if script.process else ""))


def _start(script: ShellScript, step: Start, following: Step | None) -> None:
    if script.mechanism.nvram:
        script.nvram_for_start(step.host)
    script.process = script.launch(step.host, incoming=False)
    script.watch(step.kind, following)


def _reset(script: ShellScript, step: Reset, following: Step | None) -> None:
    process = script.running
    image = script.image_at_reset(process)
    if image is not None:
        script.swap(process, image)
    script.add(f"mark {process.name}")
    if step.by is ResetBy.MONITOR:
        script.add(f"qmp {process.name} system_reset")
    else:
        script.add(f"type_at {process.name} {KEYS[step.by]}"
                   f"  # the probe guest resets itself: {step.by}")
    script.watch(step.kind, following)
    if image is not None:
        script.add(f"swapped {process.name}")


def _destination(script: ShellScript, host: int) -> ScriptedQemu:
    if script.mechanism.nvram:
        script.add(f"blank_nvram {role_name(host)}/nvram.bin {script.nvram_size}"
                   "  # the migration brings the content")
    target = script.launch(host, incoming=True)
    target.migrated = True
    return target


def _migration_begins(script: ShellScript, step: MigrationBegins, following: Step | None) -> None:
    source = script.running
    script.coming = _destination(script, step.host)
    script.add(f"ask {source.name}  # the migration begins here; this script does it where it ends")


def _migrate(script: ShellScript, step: Migrate, following: Step | None) -> None:
    source = script.running
    mode = MODES[script.setup.migration].with_more(step.capabilities, dict(step.parameters))
    if mode.answers_late:
        script.add(f"finish '{script.setup.migration} is left out here: its destination says "
                   "nothing before the source has begun' 1")
        return
    if mode.leaves_first:
        script.add(f"snapshot save {source.name}", f"stop {source.name}")
    target, script.coming = script.coming or _destination(script, step.host), None
    if step.during_post:
        script.add(f"mark {target.name}")
    wanted = [{"capability": name, "state": True} for name in mode.capabilities]
    for own, sides in ((mode.parameters, f"{source.name} {target.name}"),
                       (mode.source, source.name), (mode.destination, target.name)):
        if own or (own is mode.parameters and wanted):
            script.add(f"in_mode '{json.dumps(wanted)}' '{json.dumps(dict(own))}' {sides}")
    if step.moves_as is MovesAs.PAUSED:
        script.add(f"qmp {source.name} stop")
    elif step.moves_as is MovesAs.SUSPENDED:
        script.add(f"fall_asleep {source.name}")
    way = step.channel if mode.way is Way.CHANNEL else mode.way.value
    passes = f" {mode.passes}" if mode.way is Way.POSTCOPY else ""
    if mode.leaves_first:
        script.add(f"snapshot load {target.name}")
    else:
        broken = "  # its connection broke half-way, which this script leaves out"
        script.add(f"migrate_{way} {source.name} {target.name}{passes}"
                   + broken * step.recovers, f"stop {source.name}")
    script.process = target
    if step.moves_as is MovesAs.PAUSED:
        script.add(f"qmp {target.name} cont")
    elif step.moves_as is MovesAs.SUSPENDED:
        script.add(f"wake {target.name}")
    if script.mechanism.nvram:
        script.nvram = step.host
    if step.during_post:
        script.watch_end(step.kind)
    else:
        script.add(f"ask {target.name}")


def _shutdown(script: ShellScript, step: Shutdown, following: Step | None) -> None:
    how = "stop" if step.by is ShutdownBy.MONITOR else "guest_shutdown"
    script.add(f"{how} {script.running.name}")
    if script.coming is not None:
        script.add(f"stop {script.coming.name}")
    script.process = script.coming = None


def _upgrade_host(script: ShellScript, step: UpgradeHost, following: Step | None) -> None:
    script.files[step.host] = script.hosts[step.firmware_of].firmware
    script.add("# As package managers do: a new file, renamed over the old one.")
    script.install(step.host, step.firmware_of)


def _upgrade_nvram(script: ShellScript, step: UpgradeNvram, following: Step | None) -> None:
    firmware = script.hosts[step.firmware_of].firmware
    if firmware.size != script.image_size:
        why = (f"refused: {firmware.name} has {firmware.size:#x} bytes, the nvram has "
               f"{script.image_size:#x}")
        script.add(f"finish {quoted(why)}")
        return
    script.staged = True
    script.add(f'cp "${variable(step.firmware_of)}_FIRMWARE" {STAGED}'
               "  # it becomes the firmware at the next reset or start")


def _clear_nvram(script: ShellScript, step: ClearNvram, following: Step | None) -> None:
    script.nvram, script.staged = None, False
    script.add(f"rm -f */nvram.bin {STAGED}  # the next start initialises it again")


_WRITERS: dict[str, Callable[[ShellScript, Any, Step | None], None]] = {
    Start.kind: _start,
    Reset.kind: _reset,
    Migrate.kind: _migrate,
    MigrationBegins.kind: _migration_begins,
    Shutdown.kind: _shutdown,
    UpgradeHost.kind: _upgrade_host,
    UpgradeNvram.kind: _upgrade_nvram,
    ClearNvram.kind: _clear_nvram,
}
