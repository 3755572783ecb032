"""What is done to a guest, step by step: the library of scenarios, and the reader of a user's own.

The library is written in the very syntax that a matrix file uses for the user's step lists,
so each entry can be copied from here and changed. docs/matrix-file.md describes the syntax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from harness.model import (
    Channel,
    Policy,
    ResetBy,
    Scenario,
    ShutdownBy,
    Step,
    StepKind,
    role_index,
    role_name,
)


class StepError(ValueError):
    """A step list that cannot be read, or makes no sense.

    ``where`` leads from the list to the offending part, for example ``(1, "migrate", "to")``;
    ``found`` and ``accepted`` are set where a name was expected and another one found.
    """

    def __init__(
        self,
        where: tuple[str | int, ...],
        message: str,
        *,
        found: str | None = None,
        accepted: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.where = where
        self.message = message
        self.found = found
        self.accepted = tuple(accepted)


_ROLE = "role"
_FLAG = "flag"
# Each step's options: what a value must be. The reader and the JSON Schema both follow it.
_OPTIONS: Mapping[StepKind, Mapping[str, str | type[StrEnum]]] = {
    StepKind.START: {"on": _ROLE},
    StepKind.RESET: {"by": ResetBy},
    StepKind.MIGRATE: {"to": _ROLE, "channel": Channel, "during-post": _FLAG},
    StepKind.SHUTDOWN: {"by": ShutdownBy},
    StepKind.UPGRADE_HOST: {"host": _ROLE, "firmware-of": _ROLE},
    StepKind.UPGRADE_NVRAM: {"firmware-of": _ROLE},
    StepKind.GUEST_FLASH: {"firmware-of": _ROLE},
    StepKind.CLEAR_NVRAM: {},
    StepKind.REPLACE_DISK: {},
    StepKind.WRITE_VARIABLE: {},
    StepKind.FILL_VARIABLES: {},
    StepKind.SUSPEND: {},
}
_RUNNING_STEPS = (
    StepKind.RESET, StepKind.MIGRATE, StepKind.SHUTDOWN, StepKind.GUEST_FLASH,
    StepKind.WRITE_VARIABLE, StepKind.FILL_VARIABLES, StepKind.SUSPEND,
)  # fmt: skip
_NVRAM_STEPS = (StepKind.UPGRADE_NVRAM, StepKind.CLEAR_NVRAM)
_ROLE_EXAMPLES = ("source", "destination", "host-3")


def parse(name: str, steps: Sequence[Any], summary: str = "") -> Scenario:
    """The scenario that a list of steps, as YAML gives it, describes.

    A step is a string or a mapping with one key. Left out, ``on`` and ``host`` mean the host
    where the guest is (the source at first), ``to`` and ``firmware-of`` the one after it in
    the order source, destination, host-3, ...  Raises StepError.
    """
    guest = _Guest()
    parsed = []
    for index, raw in enumerate(steps):
        kind, options = _read_step(index, raw)
        step = _complete(kind, options, guest)
        _apply(guest, index, step)
        parsed.append(step)
    _check_roles(parsed)
    return Scenario(name, tuple(parsed), summary)


def validate(steps: Sequence[Step]) -> None:
    """Raise StepError unless the steps, one after the other, make sense for one guest."""
    guest = _Guest()
    for index, step in enumerate(steps):
        _apply(guest, index, step)
    _check_roles(steps)


def applies_to(scenario: Scenario, policy: Policy) -> bool:
    """Whether every step of the scenario can be done under the policy.

    Only the guest-owned policies have an nvram that could be upgraded or cleared. What else can
    stand in the way (board, firmware, guest) harness.unsupported knows.
    """
    return policy.keeps_nvram or not any(step.kind in _NVRAM_STEPS for step in scenario.steps)


def step_schema() -> dict[str, Any]:
    """The JSON Schema of one step in a matrix file."""
    mappings = []
    for kind, options in _OPTIONS.items():
        body = {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {key: _option_schema(accepts) for key, accepts in options.items()},
        }
        mappings.append(
            {
                "type": "object",
                "additionalProperties": False,
                "required": [kind.value],
                "properties": {kind.value: body},
            }
        )
    return {"anyOf": [{"enum": [kind.value for kind in StepKind]}, *mappings]}


def _option_schema(accepts: str | type[StrEnum]) -> dict[str, Any]:
    if accepts == _ROLE:
        return {"type": "string", "pattern": r"^(source|destination|host-([3-9]|[1-9][0-9]+))$"}
    if accepts == _FLAG:
        return {"type": "boolean"}
    return {"enum": [value.value for value in _values(accepts)]}


def _values(accepts: str | type[StrEnum]) -> tuple[StrEnum, ...]:
    assert not isinstance(accepts, str)
    return tuple(accepts)


# ---- reading one step -------------------------------------------------------------------


def _read_step(index: int, raw: Any) -> tuple[StepKind, dict[str, Any]]:
    """The kind of a step and its options, each value read as what it must be."""
    if isinstance(raw, Mapping):
        if len(raw) != 1:
            names = ", ".join(map(str, raw)) or "none"
            raise StepError((index,), f"a step has one name; this one has {names}")
        ((name, body),) = raw.items()
        where: tuple[str | int, ...] = (index, name)
    else:
        name, body, where = raw, None, (index,)
    if name not in list(StepKind):
        accepted = [kind.value for kind in StepKind]
        raise StepError(where, f"no step: {name!r}", found=str(name), accepted=accepted)
    kind = StepKind(name)
    if body is None:
        body = {}
    if not isinstance(body, Mapping):
        example = next(iter(_OPTIONS[kind]), None)
        remedy = f"write {kind.value}: {{{example}: ...}}" if example else "it takes no options"
        raise StepError(where, f"the options of {kind.value} must be a mapping; {remedy}")
    return kind, {key: _read_option(kind, (index, name), key, body[key]) for key in body}


def _read_option(kind: StepKind, where: tuple[str | int, ...], key: str, value: Any) -> Any:
    options = _OPTIONS[kind]
    if key not in options:
        raise StepError(
            (*where, key), f"{kind.value} has no option {key!r}", found=key, accepted=list(options)
        )
    accepts = options[key]
    where = (*where, key)
    if accepts == _FLAG:
        if not isinstance(value, bool):
            raise StepError(where, f"must be true or false, not {value!r}")
        return value
    if accepts == _ROLE:
        try:
            return role_index(value)
        except (ValueError, AttributeError):
            raise StepError(
                where, f"no host of a cell: {value!r}", found=str(value), accepted=_ROLE_EXAMPLES
            ) from None
    values = _values(accepts)
    for candidate in values:
        if candidate.value == value:
            return candidate
    raise StepError(
        where, f"not known: {value!r}", found=str(value), accepted=[each.value for each in values]
    )


def _complete(kind: StepKind, options: Mapping[str, Any], guest: _Guest) -> Step:
    """The step, with what the user left out filled in from where the guest is."""
    here, beyond = guest.host, guest.host + 1
    match kind:
        case StepKind.START:
            return Step(kind, host=options.get("on", here))
        case StepKind.RESET:
            return Step(kind, by=options.get("by", ResetBy.MONITOR))
        case StepKind.MIGRATE:
            return Step(
                kind,
                host=options.get("to", beyond),
                channel=options.get("channel", Channel.UNIX),
                during_post=options.get("during-post", False),
            )
        case StepKind.SHUTDOWN:
            return Step(kind, shutdown_by=options.get("by", ShutdownBy.MONITOR))
        case StepKind.UPGRADE_HOST:
            host = options.get("host", here)
            return Step(kind, host=host, firmware_of=options.get("firmware-of", host + 1))
        case StepKind.UPGRADE_NVRAM | StepKind.GUEST_FLASH:
            return Step(kind, firmware_of=options.get("firmware-of", beyond))
        case _:
            return Step(kind)


# ---- does the list make sense? ----------------------------------------------------------


@dataclass
class _Guest:
    """Where the guest is after the steps so far; ``host`` is where it was last."""

    host: int = 0
    started: bool = False
    running: bool = False
    booting: bool = False  # the last step was one that boots
    cleared: bool = False  # its nvram is empty until the next start
    flashes: int | None = None  # whose firmware waits in fw_cfg for the guest to flash it


def _apply(guest: _Guest, index: int, step: Step) -> None:
    """Let one step happen to the guest; raise StepError if it cannot."""
    kind = step.kind

    def refuse(message: str) -> StepError:
        return StepError((index, kind.value), message)

    if not guest.started and kind is not StepKind.START:
        raise refuse(f"the first step must be start, not {kind.value}")
    if kind in _RUNNING_STEPS and not guest.running:
        raise refuse(f"{kind.value} needs a running guest; it was shut down before")
    if kind is StepKind.START:
        if guest.running:
            raise refuse("the guest is running already; shut it down first")
        if step.host is None:
            raise refuse("start needs a host")
        guest.host, guest.started, guest.running = step.host, True, True
        guest.cleared = False
    elif kind is StepKind.MIGRATE:
        if step.host is None or step.host == guest.host:
            raise refuse(f"the guest is on {role_name(guest.host)} already; migrate it elsewhere")
        if step.during_post and not guest.booting:
            raise refuse("during-post must come right after a start or a reset")
        guest.host = step.host
    elif kind is StepKind.SHUTDOWN:
        guest.running = False
    elif kind is StepKind.CLEAR_NVRAM:
        if guest.running:
            raise refuse("clear-nvram needs a guest that is shut down")
        guest.cleared = True
    elif kind is StepKind.UPGRADE_HOST:
        if step.host is None or step.firmware_of is None:
            raise refuse("upgrade-host needs a host and whose firmware to install there")
        if step.host == step.firmware_of:
            raise refuse(f"{role_name(step.host)} has that firmware already")
    elif kind is StepKind.UPGRADE_NVRAM:
        if step.firmware_of is None:
            raise refuse("upgrade-nvram needs the host whose firmware to stage")
        if guest.cleared:
            raise refuse("there is no nvram to upgrade after clear-nvram; start the guest first")
    elif kind is StepKind.GUEST_FLASH:
        if step.firmware_of is None:
            raise refuse("guest-flash needs the host whose firmware the guest is to flash")
        if guest.flashes not in (None, step.firmware_of):
            raise refuse(
                f"the guest flashes the firmware of {role_name(guest.flashes or 0)} already; "
                "a QEMU offers it one image"
            )
        guest.flashes = step.firmware_of
    guest.booting = kind in (StepKind.START, StepKind.RESET)


def _check_roles(steps: Sequence[Step]) -> None:
    """Every host up to the last one named must be used: an idle one would only repeat cells."""
    if not steps:
        raise StepError((), "a scenario needs at least one step: start")
    used = {index for step in steps for index in (step.host, step.firmware_of)}
    for index in range(Scenario("", tuple(steps)).hosts_needed):
        if index not in used:
            last = role_name(Scenario("", tuple(steps)).hosts_needed - 1)
            raise StepError((), f"the steps use {last}, but never {role_name(index)}")


# ---- the library ------------------------------------------------------------------------

_BACK = {"migrate": {"to": "source"}}
_UPGRADE = {"upgrade-host": {"host": "source", "firmware-of": "destination"}}
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
}

LIBRARY: Mapping[str, Scenario] = MappingProxyType(
    {name: parse(name, steps, summary) for name, (summary, steps) in _LIBRARY.items()}
)
