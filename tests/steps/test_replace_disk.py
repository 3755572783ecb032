"""Another file takes the disk's place; a process that runs keeps what it has open."""

from __future__ import annotations

from bootmatrix.policies import Policy
from bootmatrix.policies.base import FIRST_DISK, SECOND_DISK
from bootmatrix.steps.plan import plan
from bootmatrix.steps.replace_disk import ReplaceDisk
from helpers.lives import HOSTS, Q35, RESET, SHUTDOWN, START


def test_a_reset_boots_the_old_one_and_a_start_the_new_one() -> None:
    steps = (START, ReplaceDisk(), RESET, SHUTDOWN, START)
    disks = [each.disk for each in plan(Policy.STOCK, HOSTS, Q35, steps)]
    assert disks == [FIRST_DISK, FIRST_DISK, FIRST_DISK, None, SECOND_DISK]


def test_by_hand_the_file_is_renamed_away() -> None:
    assert ReplaceDisk().by_hand("1-source") == ("mv disk.img disk.old.img", "disk_b disk.img")
