"""``guest-flash``: the guest programs its flash with what it finds in fw_cfg."""

from __future__ import annotations

from bootmatrix.errors import HarnessError, UserError
from bootmatrix.machines.base import LAST_WORDS_SECONDS
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.guest_flash import KEY, LINE, GuestFlash
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from bootmatrix.witnesses.refusal import Refusal

_DMA = 2  # fw_cfg's feature bit


def do(guest: Guest, step: GuestFlash, following: Step | None) -> StepObserved:
    """Let the guest program its flash; cut off meanwhile, it leaves one that is half-written."""
    machine, flash = guest.machine, guest.setup.flash
    if flash is None:
        raise UserError("the guest has no image to flash", hint="set it up with one")
    flashed = 0

    def progress(at: int) -> None:
        nonlocal flashed
        flashed = at

    line = machine.console.tell(KEY.encode(), LINE, guest.deadline(guest.command_seconds), progress)
    if line is None:
        if machine.outlives(machine.clock.deadline(LAST_WORDS_SECONDS)):
            words = "the guest fell silent"
        else:
            words = machine.last_words() or "QEMU ended without a word"
        return guest.observed(flashed=flashed, cut_off=words)
    answer = machine.console.ask(guest.deadline(guest.answer_seconds))
    if line.result == "misfit":
        return guest.refused(Refusal(
            "rom-size",
            f"{flash.name} has {flash.size:#x} bytes, the flash {guest.hosts.rom_size:#x}",
        ))  # fmt: skip
    if line.result == "no-image":
        return guest.refused(_no_image(guest, answer))
    return guest.observed(
        rom=guest.rom(), answer=answer, flash=line, went_round=guest.went_round())


def _no_image(guest: Guest, answer: ProbeLine | None) -> Refusal:
    """Why the guest has not found the image. Raises HarnessError where it should have."""
    if answer is not None and not (answer.features or 0) & _DMA:
        return Refusal("missing-feature", "fw_cfg of this machine type has no DMA")
    raise HarnessError(f"{guest.machine.name}: the guest does not find the image in fw_cfg")
