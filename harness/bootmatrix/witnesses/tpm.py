"""The guest's TPM: what its firmware has measured into it, and a secret that is sealed to that.

Observed as ``ProbeLine.pcr0`` ... and ``secret``. PCR 0 holds the firmware's code, as that measures
itself: it names the firmware that ran, where a start of it is known. EDK II measures its volumes
where it has unpacked them, and the PEI volume once it runs from there: a variable of a module in it
is measured with the value that it has by then, and that can depend on what other firmware has left
in the memory (docs/uefi.md, "Measured boot"). After a reset in which firmware follows on another,
one volume with the bytes that a start has names it as well.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.policies.base import Secret
from bootmatrix.steps.enrol_keys import EnrolKeys
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import Measured, ProbeLine

_OF_KEYS = "7"
_SHOWN = 12  # digits of a register that tell it from others


class MeasuredRow(TypedDict, total=False):
    """What the TPM holds, ``pcrs`` by their numbers, and the log's ``blobs`` of firmware.

    ``as_at_a_start``: PCR 0 is what a start with that firmware measures; None: nobody knows.
    """

    pcrs: dict[str, str]
    as_at_a_start: bool | None
    blobs: list[str]
    secret: str | None
    expected_secret: str | None


class TpmRow(TypedDict, total=False):
    """Its part of a boot in the record, where the cell has a TPM; None: the guest finds none."""

    tpm: MeasuredRow | None


def row(moment: Moment) -> TpmRow:
    """What it puts into the record of a boot."""
    if not moment.given.tpm:
        return {}
    line = moment.line
    if line is None or line.pcr0 is None:
        return {"tpm": None}
    wanted, found, started = _secret_expected(moment, line), found_at(moment), _started(moment)
    return {"tpm": {
        "as_at_a_start": None if found is None or started is None else found.pcr0 == started.pcr0,
        "pcrs": dict(line.pcrs), "blobs": (line.blobs or "").split(), "secret": line.secret,
        "expected_secret": None if wanted is None else wanted.value,
    }}  # fmt: skip


def found_at(moment: Moment) -> Measured | None:
    """What a boot has measured of its firmware, where it is known."""
    line = moment.line
    return None if line is None or moment.seen.boot is None else line.measured


def conflict(moment: Moment) -> Problem | None:
    """PCR 0 says that another firmware ran than console and ROM say, or that it was the same."""
    found, firmware = found_at(moment), moment.expected.firmware
    if found is None:
        return None
    measured, started = found.pcr0[:_SHOWN], _started(moment)
    if started is not None and not _is_the_same(moment, found, started):
        return Verdict.WITNESS_CONFLICT, (
            f"console and ROM say {firmware}, of which a start measures {started.pcr0[:_SHOWN]} "
            f"into PCR 0; it is {measured}"
        )
    for boot in moment.boots:
        before = found_at(boot)
        if before is None:
            continue
        if boot.expected.firmware != firmware:
            wrong = before.pcr0 == found.pcr0
        else:
            wrong = not (_is_the_same(moment, found, before) or _is_the_same(boot, before, found))
        if wrong:
            return Verdict.WITNESS_CONFLICT, (
                f"console and ROM say {firmware}, PCR 0 is {measured}; in boot {boot.n} "
                f"they said {boot.expected.firmware}, and it was {before.pcr0[:_SHOWN]}"
            )
    return None


def _started(moment: Moment) -> Measured | None:
    """What a start with the firmware of a boot measures; None where nobody knows."""
    if moment.seen.boot is None:
        return None
    return moment.given.measured.get((moment.boot.host, moment.expected.firmware))


def _is_the_same(moment: Moment, found: Measured, other: Measured) -> bool:
    """Whether what a boot has measured is that firmware: all of it, or what memory cannot change.
    """
    return found.pcr0 == other.pcr0 or (
        _follows_on_another(moment) and bool(found.blobs & other.blobs))


def _follows_on_another(moment: Moment) -> bool:
    """Whether other firmware ran in this memory, which a start empties, and no reset does."""
    if moment.step == Start.kind:
        return False
    for boot in reversed(moment.boots):
        if boot.expected.firmware != moment.expected.firmware:
            return True
        if boot.step == Start.kind:
            return False
    return False


def problem(moment: Moment) -> Problem | None:
    """The guest finds no TPM, or its secret opens where it must not, or does not where it must."""
    line = moment.line
    if not moment.given.tpm or line is None:
        return None
    if line.pcr0 is None:
        return Verdict.WRONG_TPM, "the guest finds no TPM"
    if not line.pcrs:
        return Verdict.WRONG_TPM, "the guest cannot read its TPM's registers"
    said, wanted = line.secret, _secret_expected(moment, line)
    if said is None or said == wanted:
        return None
    if said not in set(Secret):
        said = f"not to be had: the TPM answers {said}"
    return Verdict.WRONG_TPM, f"the secret in the guest's TPM is {said}, expected {wanted}"


def changed(moment: Moment) -> Problem | None:
    """Without a boot nothing is measured, wherever the guest goes, but keys that it enrols."""
    line, before = moment.line, moment.before
    if line is None or before is None or before.pcr0 is None:
        return None
    if line.pcr0 is None:
        return Verdict.WRONG_TPM, "the guest no longer finds its TPM"
    wrong = [f"PCR {number} was {was[:_SHOWN]}, now {line.pcrs.get(number, 'unreadable')[:_SHOWN]}"
             for number, was in before.pcrs.items() if line.pcrs.get(number) != was
             and not (number == _OF_KEYS and isinstance(moment.expected.step, EnrolKeys))]
    return (Verdict.WRONG_TPM, f"the running guest's TPM has changed: {', '.join(wrong)}") \
        if wrong else None


def _secret_expected(moment: Moment, line: ProbeLine) -> Secret | None:
    """The same, where the guest has sealed one."""
    return None if line.secret is None else expected(moment)


def expected(moment: Moment) -> Secret | None:
    """What must become of the secret: by the firmware, and by the keys that were enrolled then.

    PCR 7 holds those, and whether Secure Boot is on.
    """
    wanted, line = moment.expected.secret, moment.line
    first = moment.boots[0].line if moment.boots else None
    if wanted is Secret.UNLOCKED and line is not None and first is not None:
        return wanted if _secure_boot(first) == _secure_boot(line) else Secret.LOCKED_OUT
    return wanted


def _secure_boot(line: ProbeLine) -> tuple[str | None, str | None]:
    return line.secure_boot, line.keys
