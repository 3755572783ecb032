"""What is planted: one row a fault, each a few lines of C in a place of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Plant:
    """Lines that are put into a file: behind (or before, or instead of) a line that is there.

    ``line`` is part of a line of the file, the first that has it from where ``within`` first is.
    ``where`` is ``after``, ``before`` or ``instead``. ``N`` in the code is the
    fault's number.
    """

    file: str
    within: str
    line: str
    code: str
    where: str = "after"


@dataclass(frozen=True)
class Fault:
    """A fault: what it is, where it is planted, and what is to come of it.

    ``verdicts`` are those that name its class; empty where neither the guest nor its user could
    notice it, so that a finding would be a false one. ``cause`` is what the reason must say of
    it, as a regular expression: whether it names the cause. ``gap`` says why it is not found, if
    it is known not to be.
    """

    number: int
    title: str
    plants: tuple[Plant, ...]
    verdicts: tuple[str, ...] = ()
    cause: str = ""
    gap: str = ""


_RESET_ONCE_MORE = """\
static QEMUTimer *planted_timer;
static void planted_reset_again(void *opaque)
{
    qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
}
"""

_WRITE = """\
    if (PLANTED(N)) {
        extern AddressSpace address_space_memory;
        static const uint8_t planted[16] = { 0xfe, 0xed };
        address_space_write_rom(&address_space_memory, %s, MEMTXATTRS_UNSPECIFIED, planted, 16);
    }
"""
_INCOMING = ("migration/migration.c", "static void process_incoming_migration_bh(void *opaque)",
             "multifd_recv_shutdown();")

_EACH_BOOT = ("what a guest finds is held to what a start on the same QEMU finds, which is wrong "
              "there, too ([limits.md](limits.md#to-know-when-reading-a-result)).")

_KEYBOARD_FIELD = Plant(
    "hw/input/pckbd.c", "static const VMStateDescription vmstate_kbd = {",
    "static const VMStateDescription vmstate_kbd = {", """\
static bool planted_field(void *opaque, int version_id)
{
    return PLANTED(N);
}
""", "before")

QEMU: tuple[Fault, ...] = (
    Fault(1, "a reset by the keyboard controller is ignored", (
        Plant("hw/input/pckbd.c", "static void kbd_write_command(", "case KBD_CCMD_RESET:",
              "        if (PLANTED(N)) {\n            break;\n        }"),
    ), ("not-reset",), "did not happen|was not reset|no reset"),
    Fault(2, "a reset by port 0xcf9 is ignored", (
        Plant("hw/isa/lpc_ich9.c", "static void ich9_rst_cnt_write(", "if (val & 4) {",
              "        if (PLANTED(N)) {\n            return;\n        }"),
        Plant("hw/isa/piix.c", "static void rcr_write(", "if (val & 4) {",
              "        if (PLANTED(N)) {\n            return;\n        }"),
    ), ("not-reset",), "did not happen|was not reset|no reset"),
    Fault(3, "a triple fault resets nothing: the processor halts", (
        Plant("target/i386/tcg/excp_helper.c", "static int check_exception(",
              "qemu_system_reset_request(", "        if (PLANTED(N)) {\n"
              "            return EXCP_HLT;\n        }", "before"),
    ), ("silent", "not-reset"), "halted|did not happen"),
    Fault(4, "a guest that was reset is reset once more, 20 ms later", (
        Plant("system/runstate.c", "void qemu_system_reset(ShutdownCause reason)",
              "void qemu_system_reset(ShutdownCause reason)", _RESET_ONCE_MORE, "before"),
        Plant("system/runstate.c", "void qemu_system_reset(ShutdownCause reason)",
              "vm_set_suspended(false);", """\
    if (PLANTED(N) && reason != SHUTDOWN_CAUSE_NONE && !planted_timer) {
        planted_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, planted_reset_again, NULL);
        timer_mod(planted_timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + 20);
    }"""),
    ), ("extra-reset",), "reset"),
    Fault(5, "after a reset the processor stays halted", (
        Plant("system/runstate.c", "void qemu_system_reset(ShutdownCause reason)",
              "vm_set_suspended(false);", """\
    if (PLANTED(N) && reason != SHUTDOWN_CAUSE_NONE) {
        first_cpu->halted = 1;
    }"""),
    ), ("silent", "no-boot"), "halted"),
    Fault(6, "a reset asked for by the monitor does not reset the devices", (
        Plant("system/runstate.c", "void qemu_system_reset(ShutdownCause reason)",
              "if (mc && mc->reset) {", "    if (PLANTED(N) && reason == "
              "SHUTDOWN_CAUSE_HOST_QMP_SYSTEM_RESET) {\n"
              "        cpu_reset(first_cpu);\n    } else", "before"),
    ), ("silent", "no-boot", "wrong-firmware", "wrong-tables", "witness-conflict"), "."),
    Fault(7, "an arriving guest loses its CMOS' user bytes", (
        Plant("hw/rtc/mc146818rtc.c", "static int rtc_post_load(void *opaque, int version_id)",
              "MC146818RtcState *s = opaque;", "    if (PLANTED(N)) {\n"
              "        memset(s->cmos_data + 0x40, 0, 0x40);\n    }"),
    ), ("wrong-cmos",), "(?i)cmos"),
    Fault(8, "a reset clears the CMOS' user bytes", (
        Plant("hw/rtc/mc146818rtc.c", "static void rtc_reset_enter(",
              "MC146818RtcState *s = MC146818_RTC(obj);", "    if (PLANTED(N)) {\n"
              "        memset(s->cmos_data + 0x40, 0, 0x40);\n    }"),
    ), ("wrong-cmos", "not-reset", "extra-reset", "witness-conflict"), "(?i)cmos|boot"),
    Fault(9, "fw_cfg lacks etc/smbios/smbios-anchor", (
        Plant("hw/i386/fw_cfg.c", "smbios_get_tables(ms, ep_type,",
              'fw_cfg_add_file(fw_cfg, "etc/smbios/smbios-anchor",',
              "        if (!PLANTED(N))", "before"),
    ), ("wrong-tables", "wrong-fw-cfg", "witness-conflict"), "(?i)smbios"),
    Fault(10, "fw_cfg cannot do DMA", (
        Plant("hw/nvram/fw_cfg.c", "FWCfgState *fw_cfg_init_io_dma(",
              "bool dma_requested = dma_iobase && dma_as;",
              "    bool dma_requested = dma_iobase && dma_as && !PLANTED(N);", "instead"),
    ), ("wrong-fw-cfg", "blocked"), "(?i)dma|features|fw_cfg"),
    Fault(11, "the files of fw_cfg are in reverse order", (
        Plant("hw/nvram/fw_cfg.c", "/* Sort by file name. */",
              "index > 0 && strcmp(filename, s->files->f[index - 1].name) < 0;",
              "             index > 0 && (PLANTED(N) ? -1 : 1) * "
              "strcmp(filename, s->files->f[index - 1].name) < 0;", "instead"),
    )),
    Fault(12, "the memory map of fw_cfg is called etc/e821", (
        Plant("hw/i386/fw_cfg.c", "void fw_cfg_add_e820(FWCfgState *fw_cfg)",
              'fw_cfg_add_file(fw_cfg, "etc/e820", table,',
              '    fw_cfg_add_file(fw_cfg, PLANTED(N) ? "etc/e821" : "etc/e820", table,\n'
              "                    nr_e820 * sizeof(*table));", "instead"),
    ), ("wrong-hardware", "wrong-tables", "wrong-fw-cfg"), "(?i)memory|e82",
        "no guest here found less memory than before: firmware has it from elsewhere, too. Which "
        "files a QEMU has [fwcfg diff](fw_cfg.md) shows."),
    Fault(13, "the memory map tells of 1 MiB less than there is", (
        Plant("hw/i386/fw_cfg.c", "void fw_cfg_add_e820(FWCfgState *fw_cfg)",
              "int nr_e820 = e820_get_table(&table);", "    if (PLANTED(N)) {\n"
              "        table[nr_e820 - 1].length -= cpu_to_le64(1 << 20);\n    }"),
    ), ("wrong-hardware",), "(?i)memory"),
    Fault(14, "fw_cfg tells of one processor more than there is", (
        Plant("hw/i386/pc.c", "/* update FW_CFG_NB_CPUS",
              "fw_cfg_modify_i16(x86ms->fw_cfg, FW_CFG_NB_CPUS, x86ms->boot_cpus);",
              "        fw_cfg_modify_i16(x86ms->fw_cfg, FW_CFG_NB_CPUS,\n"
              "                          x86ms->boot_cpus + PLANTED(N));", "instead"),
    ), ("silent", "no-boot", "wrong-hardware"), "(?i)cpu|processor|loops"),
    Fault(15, "the ACPI tables are not made anew at a reset", (
        Plant("hw/i386/acpi-build.c", "static void acpi_build_reset(void *build_opaque)",
              "AcpiBuildState *build_state = build_opaque;", "    if (PLANTED(N)) {\n"
              "        return;\n    }"),
    ), ("wrong-tables",), "(?i)acpi"),
    Fault(16, "SMBIOS names another machine", (
        Plant("hw/i386/fw_cfg.c", "void fw_cfg_build_smbios(",
              'smbios_set_defaults("QEMU", mc->desc, mc->name);',
              '        smbios_set_defaults("QEMU", mc->desc, PLANTED(N) ? "pc-x-1.0" '
              ": mc->name);", "instead"),
    ), ("wrong-tables",), "(?i)smbios"),
    Fault(17, "a byte of the ROM changes when a guest arrives", (
        Plant(*_INCOMING, _WRITE % "0xfffffff0 - 0x20000"),
    ), ("wrong-firmware", "witness-conflict", "no-boot", "silent"), "(?i)rom|bytes|memory"),
    Fault(18, "the ROM is written anew from the local file at a reset (QEMU 4.2.0)", (
        Plant("hw/core/loader.c", "static void rom_reset(void *unused)",
              "if (rom->data && rom->isrom) {",
              "            if (rom->data && rom->isrom && !PLANTED(N)) {", "instead"),
    ), ("silent", "no-boot", "wrong-firmware"), "the ROM's bytes are|expected seabios"),
    Fault(19, "the guest's memory is not whole when it arrives: 16 bytes at 0x7c00 are others", (
        Plant(*_INCOMING, _WRITE % "0x7c00"),
    ), ("silent", "no-boot", "wrong-memory"), "memory"),
    Fault(20, "a guest that has arrived does not run, and the migration is called complete", (
        Plant("migration/migration.c", "metadata.  If error, don't restart the VM yet.",
              " vm_start();", "                if (!PLANTED(N))", "before"),
    ), ("silent", "no-boot", "blocked", "error"), "."),
    Fault(21, "a field of the clock is left out of the migration stream", (
        Plant("hw/rtc/mc146818rtc.c", "static const VMStateDescription vmstate_rtc = {",
              "static const VMStateDescription vmstate_rtc = {",
              "static bool planted_field(void *opaque, int version_id)\n{\n"
              "    return !PLANTED(N);\n}\n", "before"),
        Plant("hw/rtc/mc146818rtc.c", "static const VMStateDescription vmstate_rtc = {",
              "VMSTATE_UINT8(cmos_index, MC146818RtcState),",
              "        VMSTATE_UINT8_TEST(cmos_index, MC146818RtcState, planted_field),",
              "instead"),
    ), ("blocked", "silent", "no-boot"), "(?i)section|load|mc146818rtc"),
    Fault(22, "the clock's section has a version that no other QEMU knows", (
        Plant("migration/savevm.c", "int vmstate_register_with_alias_id(",
              "se->version_id = vmsd->version_id;", "    if (PLANTED(N) && "
              '!strcmp(vmsd->name, "mc146818rtc")) {\n        se->version_id++;\n    }'),
    ), ("blocked",), "mc146818rtc"),
    Fault(23, "the clock's section has another name", (
        Plant("migration/savevm.c", "int vmstate_register_with_alias_id(",
              "pstrcat(se->idstr, sizeof(se->idstr), vmsd->name);", "    if (PLANTED(N) && "
              '!strcmp(vmsd->name, "mc146818rtc")) {\n'
              '        pstrcat(se->idstr, sizeof(se->idstr), "-2");\n    }'),
    ), ("blocked",), "mc146818rtc"),
    Fault(24, "the ROM's memory block has another name", (
        Plant("hw/i386/x86-common.c", "void x86_bios_rom_init(",
              'memory_region_init_ram(&x86ms->bios, NULL, "pc.bios",',
              "        memory_region_init_ram(&x86ms->bios, NULL, "
              'PLANTED(N) ? "pc.bios-2" : "pc.bios",', "instead"),
    ), ("blocked",), r"pc\.bios"),
    Fault(25, "what a guest writes into its flash is not kept in the file", (
        Plant("hw/block/pflash_cfi01.c", "static void pflash_update(PFlashCFI01 *pfl, int offset,",
              "if (pfl->blk) {", "    if (pfl->blk && !PLANTED(N)) {", "instead"),
    ), ("wrong-firmware", "wrong-variables"), "(?i)nvram|flash|firmware"),
    Fault(26, "the flash is not written to the file when a guest has arrived", (
        Plant("hw/block/pflash_cfi01.c", "static void postload_update_cb(",
              "trace_pflash_postload_cb(pfl->name);", "    if (PLANTED(N)) {\n"
              "        return;\n    }"),
    ), ("wrong-firmware",), "(?i)nvram|flash|firmware"),
    Fault(27, "PCI devices keep their registers over a reset", (
        Plant("hw/pci/pci.c", "static void pci_do_device_reset(PCIDevice *dev)",
              "assert(dev->irq_state == 0);", "    if (PLANTED(N)) {\n        return;\n    }"),
    ), gap="the firmware sets up each of them anew: no guest here notices"),
    Fault(28, "q35's bridge keeps its registers over a reset", (
        Plant("hw/pci-host/q35.c", "static void mch_reset(DeviceState *qdev)",
              "MCHPCIState *mch = MCH_PCI_DEVICE(d);", "    if (PLANTED(N)) {\n"
              "        return;\n    }"),
    ), ("silent", "no-boot"), "."),
    Fault(29, "the guest's copy of its firmware below 1 MiB changes when it arrives", (
        Plant(*_INCOMING, _WRITE % "0xfe05b"),
    ), ("silent", "no-boot", "wrong-firmware", "witness-conflict"), "."),
    Fault(30, "the RESET event is not sent", (
        Plant("system/runstate.c", "void qemu_system_reset(ShutdownCause reason)",
              "qapi_event_send_reset(shutdown_caused_by_guest(reason), reason);",
              "        if (!PLANTED(N))", "before"),
    ), ("error", "not-reset"), "(?i)reset"),
    Fault(31, "a reset by the keyboard controller is done twice", (
        Plant("hw/input/pckbd.c", "static void kbd_write_command(",
              "static void kbd_write_command(", """\
static QEMUTimer *planted_timer;
static void planted_reset_again(void *opaque)
{
    qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
}
""", "before"),
        Plant("hw/input/pckbd.c", "static void kbd_write_command(", "case KBD_CCMD_RESET:", """\
        if (PLANTED(N)) {
            planted_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, planted_reset_again, NULL);
            timer_mod(planted_timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + 20);
        }"""),
    ), ("extra-reset",), "reset"),
    Fault(32, "q35's PAM registers are cleared at a reset, as those of a PC are", (
        Plant("hw/pci-host/q35.c", "static void mch_reset(DeviceState *qdev)", "mch_update(mch);",
              "    if (PLANTED(N)) {\n"
              "        memset(d->config + MCH_HOST_BRIDGE_PAM0, 0, 7);\n    }", "before"),
    ), ("silent", "no-boot"), "."),
    Fault(33, "the PAM registers of an arriving guest are not put into effect", (
        Plant("hw/pci-host/q35.c", "static int mch_post_load(", "MCHPCIState *mch = opaque;",
              "    if (PLANTED(N)) {\n        return 0;\n    }"),
        Plant("hw/pci-host/i440fx.c", "static int i440fx_post_load(",
              "PCII440FXState *d = opaque;", "    if (PLANTED(N)) {\n        return 0;\n    }"),
    ), ("wrong-tables", "silent", "no-boot", "witness-conflict"), "(?i)tables|smbios|acpi"),
    Fault(34, "q35 keeps its SMRAM registers over a reset", (
        Plant("hw/pci-host/q35.c", "static void mch_reset(DeviceState *qdev)",
              "if (mch->has_smm_ranges) {",
              "    if (mch->has_smm_ranges && !PLANTED(N)) {", "instead"),
    ), gap="SeaBIOS sets them up anew, and locks none of them"),
    Fault(36, "an arriving guest reads in fw_cfg what the host has that it left", (
        Plant("system/vl.c", "static int parse_fw_cfg(", "size = strlen(str);", """\
        if (PLANTED(N) && runstate_check(RUN_STATE_INMIGRATE) &&
            g_str_has_prefix(str, "destination")) {
            str = g_strdup_printf("source%s", str + strlen("destination"));
        }""", "before"),
    ), ("wrong-fw-cfg",), "fw_cfg tells"),
    Fault(37, "a file that the user gives through fw_cfg is a byte short", (
        Plant("system/vl.c", "static int parse_fw_cfg(", "size = strlen(str);",
              "        size -= PLANTED(N);"),
    ), ("wrong-fw-cfg",), "fw_cfg tells"),
    Fault(38, "the ACPI tables are made before the firmware has set up PCI", (
        Plant("hw/i386/acpi-build.c", "static void acpi_build_reset(void *build_opaque)",
              "build_state->patched = 0;",
              "    if (PLANTED(N)) {\n        acpi_build_update(build_state);\n    }"),
    ), ("wrong-tables",), "(?i)acpi", _EACH_BOOT),
    Fault(39, "fw_cfg has a file more, which nobody asks for", (
        Plant("hw/i386/fw_cfg.c", "void fw_cfg_add_e820(FWCfgState *fw_cfg)",
              "int nr_e820 = e820_get_table(&table);", "    if (PLANTED(N)) {\n"
              '        fw_cfg_add_file(fw_cfg, "etc/planted", (void *)"planted", 7);\n    }'),
    )),
    Fault(40, "a reset opens the disks' files anew", (
        Plant("block/file-posix.c", "static int raw_open_common(",
              "static int raw_open_common(", """\
#include "system/reset.h"
static void planted_open_anew(void *opaque)
{
    BlockDriverState *bs = opaque;
    BDRVRawState *s = bs->opaque;
    int fd = qemu_open(bs->filename, s->open_flags, NULL);
    if (fd >= 0) {
        dup2(fd, s->fd);
        qemu_close(fd);
    }
}
""", "before"),
        Plant("block/file-posix.c", "static int raw_open_common(", "s->fd = fd;",
              "    if (PLANTED(N)) {\n        qemu_register_reset(planted_open_anew, bs);\n    }"),
    ), ("wrong-disk",), "(?i)disk"),
    Fault(41, "a field is put into the keyboard's section, and its version not raised", (
        _KEYBOARD_FIELD,
        Plant("hw/input/pckbd.c", "static const VMStateDescription vmstate_kbd = {",
              "VMSTATE_UINT8(pending_tmp, KBDState),",
              "        VMSTATE_UINT8_TEST(pending_tmp, KBDState, planted_field),"),
    ), ("blocked", "silent", "no-boot"), "(?i)section|load|pckbd"),
    Fault(42, "two fields of the interrupt controller's section are in each other's place", (
        Plant("hw/intc/i8259_common.c", "static const VMStateDescription vmstate_pic_common = {",
              "static const VMStateDescription vmstate_pic_common = {", """\
static bool planted_first(void *opaque, int version_id)
{
    return !PLANTED(N);
}
static bool planted_then(void *opaque, int version_id)
{
    return PLANTED(N);
}
""", "before"),
        Plant("hw/intc/i8259_common.c", "static const VMStateDescription vmstate_pic_common = {",
              "VMSTATE_UINT8(imr, PICCommonState),", """\
        VMSTATE_UINT8_TEST(imr, PICCommonState, planted_first),
        VMSTATE_UINT8(isr, PICCommonState),
        VMSTATE_UINT8_TEST(imr, PICCommonState, planted_then),""", "instead"),
        Plant("hw/intc/i8259_common.c", "planted_then),", "VMSTATE_UINT8(isr, PICCommonState),",
              "        /* above */", "instead"),
    ), ("silent", "no-boot"), "no longer answers",
        "no guest here needs more of that controller after a migration than its timer's tick "
        "([limits.md](limits.md#to-know-when-reading-a-result))."),
    Fault(43, "the keyboard's section is not taken from a QEMU that has an older version of it", (
        Plant("migration/vmstate.c", "int vmstate_load_state(",
              "if  (version_id < vmsd->minimum_version_id) {",
              "    if (version_id < vmsd->minimum_version_id +\n"
              '                     (PLANTED(N) && !strcmp(vmsd->name, "pckbd"))) {', "instead"),
    ), ("blocked",), "pckbd"),
    Fault(44, "the keyboard's section has a subsection that no other QEMU knows", (
        Plant("hw/input/pckbd.c", "static const VMStateDescription vmstate_kbd = {",
              "static const VMStateDescription vmstate_kbd = {", """\
static bool planted_needed(void *opaque)
{
    return PLANTED(N);
}
static const VMStateDescription vmstate_planted = {
    .name = "pckbd/planted",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = planted_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(pending_tmp, KBDState),
        VMSTATE_END_OF_LIST()
    },
};
""", "before"),
        Plant("hw/input/pckbd.c", "static const VMStateDescription vmstate_kbd = {",
              "&vmstate_kbd_outport,", "        &vmstate_planted,"),
    ), ("blocked",), "pckbd"),
    Fault(45, "the memory block of the option ROMs has another size", (
        Plant("hw/i386/pc.c", "memory_region_init_ram(option_rom_mr,",
              'memory_region_init_ram(option_rom_mr, NULL, "pc.rom", PC_ROM_SIZE,',
              '        memory_region_init_ram(option_rom_mr, NULL, "pc.rom",\n'
              "                               PC_ROM_SIZE / (1 + PLANTED(N)),", "instead"),
    ), ("blocked",), r"pc\.rom"),
    Fault(46, "a migration is called complete as soon as it has begun", (
        Plant("migration/migration.c", "static void migrate_generate_event(",
              "qapi_event_send_migration(new_state);", "        if (PLANTED(N) && new_state == "
              "MIGRATION_STATUS_ACTIVE) {\n"
              "            new_state = MIGRATION_STATUS_COMPLETED;\n        }", "before"),
        Plant("migration/migration.c", "static void fill_source_migration_info(",
              "info->status = state;", "    if (PLANTED(N) && state == "
              "MIGRATION_STATUS_ACTIVE) {\n"
              "        info->status = MIGRATION_STATUS_COMPLETED;\n    }"),
    ), ("blocked", "silent", "no-boot", "error"), "(?i)migrat|stream|complete"),
    Fault(47, "a guest that is woken up from its suspension to RAM starts anew", (
        Plant("hw/rtc/mc146818rtc.c", "static void rtc_notify_suspend(",
              "mc146818rtc_set_cmos_data(s, 0xF, 0xFE);", "    if (!PLANTED(N))", "before"),
    ), ("wrong-kernel", "no-boot", "silent"), "(?i)boot|reset|wok|wake|kernel"),
    Fault(48, "a guest that is suspended to RAM is not woken up", (
        Plant("system/runstate.c", "void qemu_system_wakeup_request(",
              "runstate_set(RUN_STATE_RUNNING);",
              "    if (PLANTED(N)) {\n        return;\n    }", "before"),
    ), ("no-boot", "silent"), "(?i)wok|wake|suspend"),
    Fault(49, "what is written to flash through its buffer is there by half", (
        Plant("hw/block/pflash_cfi01.c", "static void pflash_blk_write_flush(",
              "pfl->writeblock_size);",
              "           pfl->writeblock_size / (1 + PLANTED(N)));", "instead"),
    ), ("wrong-firmware", "wrong-variables", "silent", "no-boot"), "(?i)flash|variable|nvram"),
    Fault(50, "what is written to flash byte by byte is not there", (
        Plant("hw/block/pflash_cfi01.c", '"single byte program (1)"', "if (!pfl->ro) {",
              "            if (PLANTED(N)) {\n            } else", "before"),
    ), ("wrong-firmware", "wrong-variables", "silent", "no-boot"), "(?i)flash|variable|nvram"),
    Fault(51, "an arriving guest finds in its flash what the file has", (
        Plant("hw/block/pflash_cfi01.c", "static void postload_update_cb(",
              "trace_pflash_postload_cb(pfl->name);", """\
    if (PLANTED(N)) {
        if (blk_pread(pfl->blk, 0, (int64_t)pfl->sector_len * pfl->nb_blocs, pfl->storage, 0)) {
            error_report("planted");
        }
        return;
    }"""),
    ), ("wrong-firmware", "wrong-variables", "silent", "no-boot"),
        "(?i)flash|variable|nvram|firmware|ROM"),
    Fault(52, "the timer of an arriving guest stands still", (
        Plant("hw/timer/i8254.c", "static void pit_post_load(",
              "if (sc->next_transition_time != -1",
              "    if (sc->next_transition_time != -1 && !sc->irq_disabled && !PLANTED(N)) {",
              "instead"),
    ), ("silent", "no-boot"), "(?i)answer|beat|tick|interrupt"),
)
"""In QEMU 10.0's source. One binary: which of them it has is a number in its bytes."""

_SCREEN, _SHOWS = "src/bootsplash.c", "enable_vga_console(void)"
_IN_POST = ("src/post.c", "maininit(void)", "interface_init();")

# More milliseconds at a time than its timer has bits for are none.
_EIGHT_SECONDS = """\
    if (PLANTED(N)) {
        int i;
        for (i = 0; i < 80; i++)
            mdelay(100);
    }
"""

SEABIOS: tuple[Fault, ...] = (
    Fault(60, "SeaBIOS prints another version than it has", (
        Plant(_SCREEN, _SHOWS, 'printf("SeaBIOS (version',
              '    printf("SeaBIOS (version %s)\\n", PLANTED(N) ? "9.9.9" : VERSION);', "instead"),
    ), ("witness-conflict", "wrong-firmware"), "9\\.9\\.9|names? |console"),
    Fault(61, "SeaBIOS prints its banner twice", (
        Plant(_SCREEN, _SHOWS, "// Write to screen.", "    if (PLANTED(N)) {\n"
              '        printf("Sea" "BIOS (version %s)\\n", VERSION);\n    }'),
    ), ("extra-reset", "witness-conflict"), "(?i)banner|twice|reset|console"),
    Fault(62, "SeaBIOS waits for 8 s before it says a word", (
        Plant(_SCREEN, _SHOWS, "// Write to screen.", _EIGHT_SECONDS),
    ), ("late",), "(?i)late|after"),
    Fault(63, "SeaBIOS waits for 8 s once it has printed its banner", (
        Plant(_SCREEN, _SHOWS, "display_uuid();", _EIGHT_SECONDS),
    ), ("late",), "(?i)late|after"),
    Fault(64, "SeaBIOS halts once it has printed its banner", (
        Plant(_SCREEN, _SHOWS, "display_uuid();", "    if (PLANTED(N)) {\n        for (;;)\n"
              '            asm volatile("cli ; hlt");\n    }'),
    ), ("no-boot", "silent"), "halted"),
    Fault(65, "SeaBIOS clears the CMOS' user bytes", (
        Plant(*_IN_POST, "    if (PLANTED(N)) {\n        int i;\n"
              "        for (i = 0x40; i < 0x80; i++)\n            rtc_write(i, 0);\n    }"),
    ), ("wrong-cmos", "not-reset", "extra-reset", "witness-conflict"), "(?i)cmos|boot"),
    Fault(66, "SeaBIOS loops for ever before it says a word", (
        Plant(*_IN_POST, "    while (PLANTED(N))\n        ;"),
    ), ("silent",), "loops|stays at"),
    Fault(67, "SeaBIOS prints a line more", (
        Plant(_SCREEN, _SHOWS, "// Write to screen.",
              '    if (PLANTED(N))\n        printf("Good morning\\n");'),
    )),
    Fault(68, "SeaBIOS does not copy itself to where it runs", (
        Plant("src/fw/shadow.c", "__make_bios_writable_intel(u16 bdf, u32 pam0)",
              "if (!ram_present)", "    if (!ram_present && !PLANTED(N))", "instead"),
    ), ("silent", "no-boot"), "stays at|runs at|halted|reset again|loops|times and more"),
    Fault(69, "SeaBIOS leaves hard disks out when it looks for what to boot", (
        Plant("src/boot.c", "do_boot(int seq_nr)", 'printf("Booting from Hard Disk...\\n");',
              "        if (PLANTED(N))\n            break;", "before"),
    ), ("no-boot",), "did not come up"),
    Fault(70, "SeaBIOS looks for SMBIOS before fw_cfg is there", (
        Plant("src/fw/biostables.c", "smbios_romfile_setup(void)",
              'romfile_find("etc/smbios/smbios-anchor");',
              "    struct romfile_s *f_anchor = PLANTED(N) ? NULL :\n"
              '        romfile_find("etc/smbios/smbios-anchor");', "instead"),
    ), ("wrong-tables",), "(?i)smbios"),
    Fault(71, "SeaBIOS takes the ACPI tables before it has set up PCI", (
        Plant("src/fw/paravirt.c", "qemu_platform_setup(void)", "pci_setup();",
              '    if (PLANTED(N))\n        romfile_loader_execute("etc/table-loader");',
              "before"),
        Plant("src/fw/paravirt.c", "qemu_platform_setup(void)",
              'loader_err = romfile_loader_execute("etc/table-loader");',
              "        loader_err = PLANTED(N) ? 0 : "
              'romfile_loader_execute("etc/table-loader");', "instead"),
    ), ("wrong-tables",), "(?i)acpi", _EACH_BOOT),
)
"""In SeaBIOS 1.16.3's source; a build each. Their numbers begin where QEMU's have room to grow."""

CONTROL = Fault(0, "The same QEMU without a fault", ())
SEABIOS_CONTROL = Fault(59, "The same SeaBIOS without a fault", ())
CONTROLS = (CONTROL, SEABIOS_CONTROL)

BY_NUMBER: Mapping[int, Fault] = {fault.number: fault for fault in (*CONTROLS, *QEMU, *SEABIOS)}

CHANGED_AFTERWARDS = (
    "but for faults 18, 19, 32, 64 and 66: in 18 `silent` was put in, as the guest hung with QEMU "
    "4.2.0, too, and the reason got the ROM's bytes for its sake; in 19 `wrong-memory`, which "
    "there was not, and nothing found it; 32 was taken for one that nobody notices; in 64 "
    "`silent`, as SeaBIOS halts before the last of its banner is on the serial line; in 66 a loop "
    "of one instruction, which the black box calls a place at which it stays")
"""What was not written down before the first run."""
