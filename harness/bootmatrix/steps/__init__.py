"""What is done to a guest, step by step: a file a kind, and here the table of them.

``library`` has the scenarios, ``plan`` what must hold after each step.
"""

from bootmatrix.steps.base import Step
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.enrol_keys import EnrolKeys
from bootmatrix.steps.fill_variables import FillVariables
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.steps.guest_flash_power_loss import GuestFlashPowerLoss
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.migration_begins import MigrationBegins
from bootmatrix.steps.migration_fails import MigrationFails
from bootmatrix.steps.replace_disk import ReplaceDisk
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.steps.suspend import Suspend
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.steps.write_boot_entry import WriteBootEntry
from bootmatrix.steps.write_variable import WriteVariable

STEPS: dict[str, type[Step]] = {
    step.kind: step
    for step in (
        Start,
        Reset,
        Migrate,
        MigrationBegins,
        MigrationFails,
        Shutdown,
        UpgradeHost,
        UpgradeNvram,
        GuestFlash,
        GuestFlashPowerLoss,
        ClearNvram,
        ReplaceDisk,
        WriteVariable,
        FillVariables,
        WriteBootEntry,
        EnrolKeys,
        Suspend,
    )
}
