"""The life of one cell's guest: which step came when, on which host, and what firmware ran then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.firmware.identity import BANNER
from bootmatrix.records.model import BootRow, Record, StepRow

CONSOLE_LIMIT = 16_384
"""Characters of one process's console that a report keeps: half from its start, half its end."""


@dataclass(frozen=True)
class Stage:
    """A step, and the guest after it.

    ``host`` is the role of the host where the guest is then and ``firmware`` what runs there,
    both None while it is shut down. ``boot`` is the record's boot of this step, if it has one.
    """

    step: str
    host: str | None
    firmware: str | None
    seconds: float | None
    outcome: str
    boot: BootRow | None = None

    @property
    def boots(self) -> bool:
        """Whether the firmware is to run in this step."""
        return self.step in ("start", "reset")


def stages(record: Record) -> list[Stage]:
    """The steps of a record in order. Without steps (a baseline has none): one for each boot."""
    boots = iter(record["boots"])
    steps = record.get("steps")
    if not steps:
        return [Stage(boot["step"], boot["host"], ran(boot), boot.get("seconds"), "ok", boot)
                for boot in boots]
    return list(_walk(steps, boots))


def _walk(steps: Sequence[StepRow], boots: Iterator[BootRow]) -> Iterator[Stage]:
    firmware: str | None = None
    for index, step in enumerate(steps):
        kind, boot = step["step"], None
        following = steps[index + 1] if index + 1 < len(steps) else None
        # A boot that ends after a migration is seen in the migration's row, once.
        crosses = following is not None and following["step"] == "migrate" and (
            "rom" not in following and following["outcome"] == "completed")
        begun_before = index > 0 and steps[index - 1]["step"] in ("start", "reset")
        arrived = kind == "migrate" and step["outcome"] == "completed" and "rom" not in step
        if (kind in ("start", "reset") and not crosses) or (arrived and begun_before):
            boot = next(boots, None)
        if boot is not None:
            firmware = ran(boot)
        elif kind == "shutdown":
            firmware = None
        elif step.get("rom"):
            firmware = step["rom"]
        yield Stage(kind, step.get("host"), firmware, step.get("seconds"),
                      str(step.get("outcome", "ok")), boot)


def ran(boot: BootRow) -> str | None:
    """The firmware of a boot: what the console said, else whose bytes stood in the ROM.

    Of several builds that print the same, it is the one whose bytes they are.
    """
    alike = boot.get("console_candidates") or ()
    name: str | None = boot["rom"] if len(alike) > 1 and boot["rom"] in alike else (
        boot["console"] or boot["rom"])
    return name


def refused(record: Record) -> bool:
    """Whether QEMU refused a migration, as it must or not: the guest stayed where it was.

    An accepted baseline has no steps, and says so by itself.
    """
    return bool(record.get("refused")) or any(
        step["step"] == "migrate" and str(step.get("outcome", "")).startswith("refused")
        for step in record.get("steps") or ())


def last_firmware(record: Record) -> str | None:
    """The firmware of the last boot."""
    return ran(record["boots"][-1]) if record["boots"] else None


def capped(text: str, limit: int = CONSOLE_LIMIT) -> str:
    """The beginning and the end of a long text, with a line between that says what is left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


MARKED = rf"{BANNER}|BOOTMATRIX up [^\r\n]*"
"""What a report marks in a console: firmware's banner, and the guest's line. Also a JS pattern."""
