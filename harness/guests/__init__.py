"""Guest disks, built from the sources in images/guests and cached by content."""

from harness.guests.efi import EFI_SOURCES, uefi_disk
from harness.guests.linux import LINUX_SOURCES, LinuxKernel, linux_disk, linux_kernel
from harness.guests.probe import DISK_SIZE, PROBE_SOURCE, probe_disk

__all__ = [
    "DISK_SIZE", "EFI_SOURCES", "LINUX_SOURCES", "PROBE_SOURCE", "LinuxKernel", "linux_disk",
    "linux_kernel", "probe_disk", "uefi_disk",
]  # fmt: skip
