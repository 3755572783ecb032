"""What is done to a guest, step by step: the library of scenarios, and the reader of a user's own.

The library is written in the very syntax that a matrix file uses for the user's step lists,
so each entry can be copied from here and changed. docs/matrix-file.md describes the syntax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from bootmatrix.model import role_name
from bootmatrix.policies import Policy
from bootmatrix.steps import STEPS
from bootmatrix.steps.base import GuestState, Role, Scenario, Step, StepError
from bootmatrix.steps.start import Start


def parse(name: str, steps: Sequence[Any], summary: str = "") -> Scenario:
    """The scenario that a list of steps, as YAML gives it, describes.

    A step is a string or a mapping with one key. Left out, ``on`` and ``host`` mean the host
    where the guest is (the source at first), ``to`` and ``firmware-of`` the one after it in
    the order source, destination, host-3, ...  Raises StepError.
    """
    state = GuestState()
    parsed = []
    for index, raw in enumerate(steps):
        step = _read(index, raw, state)
        advance(state, index, step)
        parsed.append(step)
    _check_roles(parsed)
    return Scenario(name, tuple(parsed), summary)


def validate(steps: Sequence[Step]) -> None:
    """Raise StepError unless the steps, one after the other, make sense for one guest."""
    state = GuestState()
    for index, step in enumerate(steps):
        advance(state, index, step)
    _check_roles(steps)


def applies_to(scenario: Scenario, policy: Policy) -> bool:
    """Whether every step of the scenario can be done under the policy.

    Only the guest-owned policies have an nvram that could be upgraded or cleared. What else can
    stand in the way (board, firmware, guest) bootmatrix.matrix.unsupported knows.
    """
    return policy.keeps_nvram or not any(step.needs_nvram for step in scenario.steps)


def step_schema() -> dict[str, Any]:
    """The JSON Schema of one step in a matrix file."""
    mappings = []
    for name, kind in STEPS.items():
        body = {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {option.name: option.schema for option in kind.options},
        }
        mappings.append(
            {
                "type": "object",
                "additionalProperties": False,
                "required": [name],
                "properties": {name: body},
            }
        )
    return {"anyOf": [{"enum": list(STEPS)}, *mappings]}


# ---- reading one step -------------------------------------------------------------------


def _read(index: int, raw: Any, state: GuestState) -> Step:
    """A step, each value read as what it must be, and what was left out filled in."""
    if isinstance(raw, Mapping):
        if len(raw) != 1:
            names = ", ".join(map(str, raw)) or "none"
            raise StepError((index,), f"a step has one name; this one has {names}")
        ((name, body),) = raw.items()
        where: tuple[str | int, ...] = (index, name)
    else:
        name, body, where = raw, None, (index,)
    if not isinstance(name, str) or name not in STEPS:
        raise StepError(where, f"no step: {name!r}", found=str(name), accepted=list(STEPS))
    kind = STEPS[name]
    if body is None:
        body = {}
    if not isinstance(body, Mapping):
        remedy = (f"write {name}: {{{kind.options[0].name}: ...}}" if kind.options
                  else "it takes no options")
        raise StepError(where, f"the options of {name} must be a mapping; {remedy}")
    accepted = [option.name for option in kind.options]
    for key in body:
        if key not in accepted:
            raise StepError(
                (index, name, key), f"{name} has no option {key!r}", found=key, accepted=accepted)
    fields: dict[str, Any] = {}
    host = state.host
    for option in kind.options:
        if option.name in body:
            fields[option.field] = option.read((index, name, option.name), body[option.name])
        elif isinstance(option, Role):
            fields[option.field] = host + option.beyond
        if isinstance(option, Role):
            host = fields[option.field]
    return kind(**fields)


def read_step(raw: Any) -> Step:
    """The step that ``written`` has given. Raises StepError."""
    return _read(0, raw, GuestState())


def written(step: Step) -> str | dict[str, dict[str, Any]]:
    """A step as a matrix file has it, each option said that is no empty list."""
    options = {option.name: option.written(value) for option in step.options
               if (value := getattr(step, option.field)) != ()}
    return {step.kind: options} if options else step.kind


StepData = Annotated[Step, PlainSerializer(written), PlainValidator(read_step)]
"""A step in a pydantic model of plain data."""


# ---- does the list make sense? ----------------------------------------------------------


def advance(state: GuestState, index: int, step: Step) -> None:
    """Let one step happen to the guest; raise StepError if it cannot."""
    if not state.started and not isinstance(step, Start):
        problem: str | None = f"the first step must be start, not {step.kind}"
    elif step.running and not state.running:
        problem = f"{step.kind} needs a running guest; it was shut down before"
    else:
        problem = step.problem(state)
    if problem:
        raise StepError((index, step.kind), problem)
    step.advance(state)
    state.booting = step.boots


def _check_roles(steps: Sequence[Step]) -> None:
    """Every host up to the last one named must be used: an idle one would only repeat cells."""
    if not steps:
        raise StepError((), "a scenario needs at least one step: start")
    used = {role for step in steps for role in step.roles}
    for index in range(max(used)):
        if index not in used:
            last = role_name(max(used))
            raise StepError((), f"the steps use {last}, but never {role_name(index)}")


# ---- the library ------------------------------------------------------------------------

_BACK = {"migrate": {"to": "source"}}
_UPGRADE = {"upgrade-host": {"host": "source", "firmware-of": "destination"}}
_OTHER = {"upgrade-host": {"host": "destination", "firmware-of": "host-3"}}
_LIBRARY: Mapping[str, tuple[str, list[Any]]] = {
    "cold-boot": ("one start, nothing else", ["start"]),
    "reset": ("a reset, never migrated", ["start", "reset"]),
    "reset-by-cf9": (
        "the guest resets itself through port 0xCF9",
        ["start", {"reset": {"by": "cf9"}}],
    ),
    "reset-by-keyboard": (
        "the guest resets itself through the keyboard controller",
        ["start", {"reset": {"by": "keyboard"}}],
    ),
    "reset-by-triple-fault": (
        "the guest resets itself by a triple fault",
        ["start", {"reset": {"by": "triple-fault"}}],
    ),
    "reset-by-acpi": (
        "the guest resets itself through the ACPI reset register",
        ["start", {"reset": {"by": "acpi"}}],
    ),
    "reset-by-efi-cold": (
        "the guest asks the firmware's ResetSystem for a cold reset",
        ["start", {"reset": {"by": "efi-cold"}}],
    ),
    "reset-by-efi-warm": (
        "the guest asks the firmware's ResetSystem for a warm reset",
        ["start", {"reset": {"by": "efi-warm"}}],
    ),
    "reset-by-rtas": (
        "the guest asks pseries' run-time abstraction services for a reset",
        ["start", {"reset": {"by": "rtas"}}],
    ),
    "migrate-reset": (
        "live migration, then a reset: the question itself",
        ["start", "migrate", "reset"],
    ),
    "migrate-reset-by-cf9": (
        "live migration, then the guest resets itself through port 0xCF9",
        ["start", "migrate", {"reset": {"by": "cf9"}}],
    ),
    "migrate-reset-by-keyboard": (
        "live migration, then the guest resets itself through the keyboard controller",
        ["start", "migrate", {"reset": {"by": "keyboard"}}],
    ),
    "migrate-reset-by-triple-fault": (
        "live migration, then the guest resets itself by a triple fault",
        ["start", "migrate", {"reset": {"by": "triple-fault"}}],
    ),
    "migrate-reset-by-acpi": (
        "live migration, then the guest resets itself through the ACPI reset register",
        ["start", "migrate", {"reset": {"by": "acpi"}}],
    ),
    "migrate-reset-by-efi-warm": (
        "live migration, then the guest asks the firmware's ResetSystem for a warm reset",
        ["start", "migrate", {"reset": {"by": "efi-warm"}}],
    ),
    "reset-during-migration": (
        "a reset while a live migration runs, then another on the destination",
        ["start", "migration-begins", "reset", "migrate", "reset"],
    ),
    "shutdown-during-migration": (
        "shutdown while a live migration runs, then a start where it was",
        ["start", "migration-begins", "shutdown", "start"],
    ),
    "migrate-paused-reset": (
        "live migration of a guest that is paused, and goes on where it arrived, then a reset",
        ["start", {"migrate": {"as": "paused"}}, "reset"],
    ),
    "migrate-suspended-reset": (
        "live migration of a guest that is suspended to RAM, and woken up there, then a reset",
        ["start", {"migrate": {"as": "suspended"}}, "reset"],
    ),
    "destination-upgrade-before-arrival": (
        "the destination's firmware file is replaced once it is launched, then the guest arrives",
        ["start", "migration-begins", _OTHER, "migrate", "reset"],
    ),
    "destination-upgrade-after-arrival": (
        "the destination's firmware file is replaced when the guest has arrived, then a reset",
        ["start", "migrate", _OTHER, "reset"],
    ),
    "refused-migrate-reset": (
        "the destination refuses a live migration, then another arrives, and a reset",
        ["start", {"migration-fails": {"by": "destination-refuses"}}, "migrate", "reset"],
    ),
    "cut-reset-migrate-reset": (
        "a live migration is cut off, a reset at home, then another arrives, and a reset",
        ["start", {"migration-fails": {"by": "stream-cut"}}, "reset", "migrate", "reset"],
    ),
    "migrate-reset-twice": (
        "live migration, then two resets: the second must not differ from the first",
        ["start", "migrate", "reset", "reset"],
    ),
    "migrate-restart": (
        "live migration, then shutdown and start on the destination",
        ["start", "migrate", "shutdown", "start"],
    ),
    "ping-pong": (
        "there, reset, back, reset",
        ["start", "migrate", "reset", _BACK, "reset"],
    ),
    "chain": (
        "from host to host to host, a reset at each",
        ["start", "migrate", "reset", "migrate", "reset"],
    ),
    "move": (
        "shutdown, then start on the destination",
        ["start", "shutdown", {"start": {"on": "destination"}}],
    ),
    "save-restore-reset": (
        "saved to a file, restored on the destination, then a reset",
        ["start", {"migrate": {"channel": "file"}}, "reset"],
    ),
    "migrate-during-post": (
        "live migration while the firmware still runs, then a reset",
        ["start", {"migrate": {"during-post": True}}, "reset"],
    ),
    "host-upgrade-reset": (
        "the host gets the destination's firmware under a running guest, then a reset",
        ["start", _UPGRADE, "reset"],
    ),
    "host-upgrade-restart": (
        "the host gets the destination's firmware, then shutdown and start",
        ["start", _UPGRADE, "shutdown", "start"],
    ),
    "nvram-upgrade-reset": (
        "the user stages the destination's firmware in the nvram, then a reset",
        ["start", {"upgrade-nvram": {"firmware-of": "destination"}}, "reset"],
    ),
    "nvram-upgrade-migrate-reset": (
        "the user stages the destination's firmware, then migration, then a reset",
        ["start", {"upgrade-nvram": {"firmware-of": "destination"}}, "migrate", "reset"],
    ),
    "guest-flash-reset": (
        "the guest programs its own flash with the destination's firmware, then a reset",
        ["start", {"guest-flash": {"firmware-of": "destination"}}, "reset"],
    ),
    "guest-flash-migrate-reset": (
        "the guest programs its own flash, then migration, then a reset",
        ["start", {"guest-flash": {"firmware-of": "destination"}}, "migrate", "reset"],
    ),
    "replace-disk-reset": (
        "another disk file is put in the place of the guest's, then a reset",
        ["start", "replace-disk", "reset"],
    ),
    "replace-disk-restart": (
        "another disk file is put in the place of the guest's, then shutdown and start",
        ["start", "replace-disk", "shutdown", "start"],
    ),
    "shutdown-by-guest-restart": (
        "the guest shuts itself down, then a start",
        ["start", {"shutdown": {"by": "guest"}}, "start"],
    ),
    "suspend-wake": ("the guest suspends itself to RAM, and is woken up", ["start", "suspend"]),
    "migrate-suspend-wake-reset": (
        "live migration, then suspend to RAM and wake-up, which is no reset, then a reset",
        ["start", "migrate", "suspend", "reset"],
    ),
    "variables-migrate-reset": (
        "the guest writes UEFI variables, then live migration, then a reset",
        ["start", "write-variable", "migrate", "reset"],
    ),
    "variables-migrate-restart": (
        "the guest writes UEFI variables, then live migration, then shutdown and start there",
        ["start", "write-variable", "migrate", "shutdown", "start"],
    ),
    "variables-ping-pong": (
        "the guest writes UEFI variables, then there, reset, back, reset",
        ["start", "write-variable", "migrate", "reset", _BACK, "reset"],
    ),
    "variables-move": (
        "the guest writes UEFI variables, then shutdown and start on the destination",
        ["start", "write-variable", "shutdown", {"start": {"on": "destination"}}],
    ),
    "variables-host-upgrade-restart": (
        "the guest writes UEFI variables, the host gets the destination's firmware, then a restart",
        ["start", "write-variable", _UPGRADE, "shutdown", "start"],
    ),
    "variables-fill-migrate-reset": (
        "the guest fills the variable store, then live migration, then a reset",
        ["start", "fill-variables", "migrate", "reset"],
    ),
    "boot-entry-migrate-reset": (
        "the guest puts an entry first in BootOrder, then live migration, then a reset",
        ["start", "write-boot-entry", "migrate", "reset"],
    ),
    "boot-entry-move": (
        "the guest puts an entry first in BootOrder, then shutdown and start on the destination",
        ["start", "write-boot-entry", "shutdown", {"start": {"on": "destination"}}],
    ),
    "boot-next-migrate-reset": (
        "the guest names an entry in BootNext, then live migration, then two resets",
        ["start", {"write-boot-entry": {"by": "boot-next"}}, "migrate", "reset", "reset"],
    ),
    "keys-migrate-reset": (
        "the guest enrols Secure Boot keys, then live migration, then a reset",
        ["start", "enrol-keys", "migrate", "reset"],
    ),
    "keys-move": (
        "the guest enrols Secure Boot keys, then shutdown and start on the destination",
        ["start", "enrol-keys", "shutdown", {"start": {"on": "destination"}}],
    ),
}

LIBRARY: Mapping[str, Scenario] = MappingProxyType(
    {name: parse(name, steps, summary) for name, (summary, steps) in _LIBRARY.items()}
)
