/* The UEFI probe guest: an EFI application that says on the serial console which boot this is,
 * which firmware, variables, disk and QEMU it found, then beats until it is told to do something.
 * probe.asm describes the lines that both probes have, harness/bootmatrix/witnesses/probe_line.py reads them. What is
 * this one's own:
 *
 *   after "acpi=": uefi="EDK II" revision=00010000 secure-boot=0 setup-mode=1 keys=00000000
 *                  value="boot-2" entry="bootmatrix boot-2" program="\EFI\BOOT\BOOTX64.EFI"
 *                  secret=unlocked pcr0=... pcr2=... pcr4=... pcr7=... blobs=" 00820000+000e0000=0123abcd"
 *                  where there is a TPM: tpm.h
 *   BOOTMATRIX reset by=efi-cold|efi-warm
 *   BOOTMATRIX shutdown
 *   BOOTMATRIX written value="boot-3" result=ok
 *   BOOTMATRIX filled count=230 size=235520 result=full
 *
 * Digits before a command come back in its answer, as probe.asm has it.
 * Commands, one byte each, anything else is ignored: "?", on x86 also "c", "k" and "t" as probe.asm
 * has them, and
 *   e  cold reset    w  warm reset    s  shutdown, all three by runtime services
 *   v  write the variable Value and the boot entry Boot0B17, which boots nothing
 *   b  write the boot entry Boot0B18, \EFI\GUEST\OWN.EFI, and put it first in BootOrder
 *   n  write the boot entry Boot0B19, \EFI\GUEST\NEXT.EFI, and name it in BootNext
 *   p  enrol the Secure Boot keys on our disk, \KEYS\DB, KEK and PK, which are signed
 *   x  write variables Fill0000, Fill0001, ... until the store refuses one, then delete the last
 *
 * "result" is the status of SetVariable by its name in the specification. "boot" is the variable
 * BootCount; where it cannot be written the line comes all the same. "program" is the file that the
 * firmware started: the application lies on its disk three times.
 *
 * SPDX-License-Identifier: MIT
 */
#include "uefi.h"

#define STRING_SIZE 64                  /* of a string that is printed, with its NUL */
#define BEAT 5000000                    /* half a second */
#define FILL_SIZE 7168
#define FILLS 10000
#define LARGEST_VARIABLE 0x40000
#define ACPI_HEADER 36
#define ACPI_CHECKSUM 9
#define TPM2_LOG 68                     /* the address of the log in that table */
#define ACPI_LONGEST 0x100000           /* what is longer is no table */
#define FNV_BASIS 0x811C9DC5u           /* FNV-1a, 32 bits */
#define FNV_PRIME 0x01000193u
#define BOOT_ENTRY u"Boot0B17"
#define ORDERED 0x0B18                  /* Boot0B18, in BootOrder */
#define NEXT 0x0B19

static const Guid ours =
    {0x6D74786F, 0x6F62, 0x4D42, {0x9A, 0x1C, 0x0B, 0x6F, 0x6F, 0x74, 0x6D, 0x78}};
static const Guid global = GLOBAL_VARIABLE;

static SystemTable *st;
static DevicePath *own_path;
static Handle own_device;
static u32 boots, beats;
static char disk[STRING_SIZE];
static u8 variable[LARGEST_VARIABLE];

/* ---- Bytes: clang may call the first two by itself ----------------------------------------- */

void *memset(void *to, int value, u64 size) {
    for (u8 *at = to; size; size--)
        *at++ = value;
    return to;
}

void *memcpy(void *to, const void *from, u64 size) {
    for (u64 i = 0; i < size; i++)
        ((u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

static int equal(const void *one, const void *other, u64 size) {
    const u8 *a = one, *b = other;
    while (size && *a == *b)
        a++, b++, size--;
    return !size;
}

static u32 big_endian(const u8 *at) {
    return (u32)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static u64 little_endian(const u8 *at, u32 size) {
    u64 value = 0;
    while (size--)
        value = value << 8 | at[size];
    return value;
}

static u32 fnv(u32 sum, const u8 *at, u64 size) {
    for (; size; size--)
        sum = (sum ^ *at++) * FNV_PRIME;
    return sum;
}

static u8 *find_table(const Guid *guid) {
    for (u64 i = 0; i < st->tables; i++)
        if (equal(&st->table[i].guid, guid, sizeof *guid))
            return st->table[i].table;
    return 0;
}

#include "machine.h"

/* ---- Lines --------------------------------------------------------------------------------- */

#include "line.h"

static void put_hexadecimal(u32 value) {
    for (int shift = 28; shift >= 0; shift -= 4)
        put_char("0123456789abcdef"[value >> shift & 15]);
}

static void put_utf16(const u16 *text, u32 room) {
    for (; room && *text; room--)
        put_char(printable(*text++));
}

static void end_line(void) {
    put("\r\n");
    write_console(line, length);
    length = 0;
}

static void put_result(Status status) {
    put(" result=");
    switch (status) {
    case EFI_SUCCESS: put("ok"); break;
    case EFI_ERROR(2): put("invalid-parameter"); break;
    case EFI_ERROR(3): put("unsupported"); break;
    case EFI_ERROR(7): put("device-error"); break;
    case EFI_ERROR(8): put("write-protected"); break;
    case EFI_ERROR(9): put("out-of-resources"); break;
    case EFI_ERROR(14): put("not-found"); break;
    case EFI_ERROR(15): put("access-denied"); break;
    case EFI_ERROR(26): put("security-violation"); break;
    default: put("other"); break;
    }
}

#include "tpm.h"

/* ---- SMBIOS and ACPI ----------------------------------------------------------------------- */

/* The string of a structure by the number that it has at an offset; SMBIOS 3.7, 6.1.3. */
static void put_smbios_string(const u8 *structure, u32 offset) {
    const u8 *text = structure + structure[1];
    for (u32 number = structure[offset]; number != 1 && *text; number--) {
        if (!number)
            return;
        while (*text++) {}
    }
    for (u32 room = STRING_SIZE - 1; room && *text; room--)
        put_char(printable(*text++));
}

static const u8 *find_smbios(const u8 **end) {      /* the first structure, or nothing */
    static const Guid smbios = SMBIOS_TABLE, smbios3 = SMBIOS3_TABLE;
    const u8 *at = 0, *entry = find_table(&smbios3);
    if (entry) {
        at = (const u8 *)little_endian(entry + 0x10, 8);
        *end = at + little_endian(entry + 0x0C, 4);
    } else if ((entry = find_table(&smbios))) {
        at = (const u8 *)little_endian(entry + 0x18, 4);
        *end = at + little_endian(entry + 0x16, 2);
    }
    return at;
}

/* U-Boot 2021.01 ends a structure without strings by one zero, so the last may have no end. */
static const u8 *next_structure(const u8 *at, const u8 *end) {
    for (at += at[1]; at + 1 < end && (at[0] || at[1]); at++) {}
    return at + 2 < end ? at + 2 : end;
}

static const u8 *find_structure(u8 type) {          /* the first of a type, or nothing */
    const u8 *end, *at = find_smbios(&end);
    while (at && at + 4 < end && at[0] != 127) {
        if (at[0] == type)
            return at;
        at = next_structure(at, end);
    }
    return 0;
}

/* As probe.asm: over all structures but the firmware's own, without their handles. */
static u32 sum_smbios(void) {
    const u8 *end, *at = find_smbios(&end);
    u32 sum = 0;
    while (at && at + 4 < end && at[0] != 127) {
        const u8 *next = next_structure(at, end);
        if (at[0] != 0 && next > at + 4) {
            sum = fnv(sum ? sum : FNV_BASIS, at, 2);
            sum = fnv(sum, at + 4, next - at - 4);
        }
        at = next;
    }
    return sum;
}

static const u8 *find_xsdt(void) {
    static const Guid acpi = ACPI_20_TABLE;
    const u8 *rsdp = find_table(&acpi);
    return rsdp ? (const u8 *)little_endian(rsdp + 24, 8) : 0;
}

static const u8 *find_acpi(const char *signature) {
    const u8 *table, *xsdt = find_xsdt();
    u32 size = xsdt ? little_endian(xsdt + 4, 4) : 0;
    for (u32 at = ACPI_HEADER; at + 8 <= size; at += 8)
        if (equal(table = (const u8 *)little_endian(xsdt + at, 8), signature, 4))
            return table;
    return 0;
}

/* As probe.asm: over the DSDT and all that the XSDT names but the FADT, which like the XSDT holds
 * addresses that depend on the firmware, and not on QEMU, as the end of TPM2 does: where it has put
 * the log, which is not the same at the first boot and at later ones. QEMU's tables alone, known by
 * their OEM: the firmware adds others. */
static u32 sum_acpi(void) {
    const u8 *xsdt = find_xsdt();
    if (!xsdt)
        return 0;
    u32 sum = FNV_BASIS, size = little_endian(xsdt + 4, 4);
    for (u32 at = ACPI_HEADER; at + 8 <= size; at += 8) {
        const u8 *table = (const u8 *)little_endian(xsdt + at, 8);
        if (equal(table, "FACP", 4)) {
            u64 dsdt = little_endian(table + 140, 8);
            table = (const u8 *)(dsdt ? dsdt : little_endian(table + 40, 4));
        }
        u32 bytes = little_endian(table + 4, 4);
        if (bytes > ACPI_LONGEST || !equal(table + 10, "BOCHS ", 6))
            continue;
        if (equal(table, "TPM2", 4) && bytes >= TPM2_LOG) {
            sum = fnv(sum, table, ACPI_CHECKSUM);
            sum = fnv(sum, table + ACPI_CHECKSUM + 1, TPM2_LOG - ACPI_CHECKSUM - 1);
        } else {
            sum = fnv(sum, table, bytes);
        }
    }
    return sum;
}

/* ---- Memory and CPUs ----------------------------------------------------------------------- */

/* KiB of RAM in the firmware's map: free, its own, and of the ACPI tables. */
static u32 sum_memory(void) {
    static u64 map[8192];
    u64 size = sizeof map, key, descriptor, pages = 0;
    u32 version;
    if (st->boot->get_memory_map(&size, map, &key, &descriptor, &version))
        return 0;
    for (u64 at = 0; at + descriptor <= size; at += descriptor) {
        const MemoryDescriptor *range = (const MemoryDescriptor *)((u8 *)map + at);
        if ((range->type >= LOADER_CODE && range->type <= CONVENTIONAL) ||
            range->type == ACPI_RECLAIM || range->type == ACPI_NVS)
            pages += range->pages;
    }
    return pages * 4;
}

/* By the MADT (ACPI 6.5, 5.2.12): the processors that are enabled. */
static u32 count_in_madt(void) {
    static const struct { u8 type, flags; } processors[] = {
        {0, 4}, {9, 8}, {11, 12}, {24, 4}};     /* local APIC, x2APIC, GICC, RINTC */
    u32 count = 0, size, at = 44;
    const u8 *madt = find_acpi("APIC");
    if (!madt)
        return 0;
    for (size = little_endian(madt + 4, 4); at + 16 <= size && madt[at + 1]; at += madt[at + 1])
        for (u32 i = 0; i < sizeof processors / sizeof *processors; i++)
            if (madt[at] == processors[i].type)
                count += madt[at + processors[i].flags] & 1;
    return count;
}

/* Those that the firmware has brought up, where it tells; 0: nothing tells. */
static u32 count_cpus(void) {
    static const Guid mp_services = MP_SERVICES_PROTOCOL;
    MpServices *services;
    u64 all, enabled;
    if (!st->boot->locate_protocol(&mp_services, 0, &services) &&
        !services->get_number_of_processors(services, &all, &enabled))
        return enabled;
    return count_in_madt();
}

/* ---- fw_cfg (docs/specs/fw_cfg of QEMU): read anew each time, as it may be another QEMU's --- */

static void read_fw_cfg(void *to, u32 size) {
    for (u8 *at = to; size; size--)
        *at++ = read_fw_cfg_byte();
}

static void put_fw_cfg(void) {
    static const char name[] = "opt/bootmatrix/host";
    u8 signature[4] = {0}, number[4] = {0}, entry[64];
    if (has_fw_cfg()) {
        select_fw_cfg(FW_CFG_SIGNATURE);
        read_fw_cfg(signature, 4);
    }
    if (!equal(signature, "QEMU", 4)) {
        put(" fw-cfg=\"\" features=0 host=\"\"");
        return;
    }
    select_fw_cfg(FW_CFG_ID);
    read_fw_cfg(number, 4);
    put(" fw-cfg=\"QEMU\" features=");
    put_decimal(little_endian(number, 4));
    put(" host=\"");
    select_fw_cfg(FW_CFG_FILE_DIR);
    read_fw_cfg(number, 4);
    for (u32 files = big_endian(number); files; files--) {
        read_fw_cfg(entry, sizeof entry);
        if (equal(entry + 8, name, sizeof name)) {
            u32 size = big_endian(entry);
            select_fw_cfg(entry[4] << 8 | entry[5]);
            for (u32 room = STRING_SIZE - 1; room && size; room--, size--)
                put_char(printable(read_fw_cfg_byte()));
            break;
        }
    }
    put_char('"');
}

/* ---- Variables ----------------------------------------------------------------------------- */

/* Its content into "variable", and how many bytes that are: 0, there is none. */
static u64 read_variable(const u16 *name, const Guid *guid) {
    u64 size = sizeof variable;
    return st->runtime->get_variable(name, guid, 0, &size, variable) ? 0 : size;
}

/* A file of the disk that we came from: how many bytes of it have gone to "to", of "room"; 0, none. */
static u64 read_file(const u16 *name, void *to, u64 room) {
    static const Guid guid = SIMPLE_FILE_SYSTEM_PROTOCOL;
    FileSystem *system;
    File *root, *file;
    u64 size = 0;
    if (st->boot->handle_protocol(own_device, &guid, &system) || system->open_volume(system, &root))
        return 0;
    if (!root->open(root, &file, name, FILE_MODE_READ, 0)) {
        size = room;
        if (file->read(file, &size, to))
            size = 0;
        file->close(file);
    }
    root->close(root);
    return size;
}

static Status write_variable(const u16 *name, const Guid *guid, const void *content, u64 size) {
    return st->runtime->set_variable(name, guid, EFI_VARIABLE_NV_BS_RT, size, content);
}

static u32 read_flag(const u16 *name) {
    return read_variable(name, &global) == 1 && variable[0] == 1;
}

static u32 sum_keys(void) {
    static const Guid database = IMAGE_SECURITY_DATABASE;
    u32 sum = FNV_BASIS;
    u64 size, sizes = 0;
    for (u32 i = 0; i < 4; i++) {
        static const u16 names[4][4] = {u"PK", u"KEK", u"db", u"dbx"};
        sizes += size = read_variable(names[i], i < 2 ? &global : &database);
        sum = fnv(sum, variable, size);
    }
    return sizes ? sum : 0;
}

/* PK last: with it setup mode is over, and what is not signed for it is refused. */
static void enrol_keys(void) {
    static const Guid database = IMAGE_SECURITY_DATABASE;
    static const struct { u16 name[4], file[10]; } keys[] = {
        {u"db", u"\\KEYS\\DB"}, {u"KEK", u"\\KEYS\\KEK"}, {u"PK", u"\\KEYS\\PK"}};
    Status status = EFI_SUCCESS;
    for (u32 i = 0; !status && i < sizeof keys / sizeof *keys; i++) {
        u64 size = read_file(keys[i].file, variable, sizeof variable);
        status = size ? st->runtime->set_variable(
            keys[i].name, i ? &global : &database,
            EFI_VARIABLE_NV_BS_RT | EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS, size,
            variable) : EFI_NOT_FOUND;
    }
    put_answer("written");
    put(" value=\"keys\"");
    put_result(status);
    end_line();
}

/* Which boot it is by the CMOS, as probe.asm counts there, 0: that is lost. */
#ifdef __x86_64__
static u32 read_count(void) {
    if (read_cmos(0x70) != 'B' || read_cmos(0x71) != 'M')
        return 0;
    return read_cmos(0x72) | read_cmos(0x73) << 8;
}

static void count_in_cmos(void) {
    u32 count = read_count() + 1;
    write_cmos(0x70, 'B');
    write_cmos(0x71, 'M');
    write_cmos(0x72, count);
    write_cmos(0x73, count >> 8);
}
#else
static void count_in_cmos(void) {}
#endif

static void count_boot(void) {
    boots = read_variable(u"BootCount", &ours) == 4 ? little_endian(variable, 4) : 0;
    boots++;
    write_variable(u"BootCount", &ours, &boots, sizeof boots);
    count_in_cmos();
}

/* The nodes of a device path but its end, behind "size" bytes of an option with room for "room": how
 * many bytes it then has, more than "room" where it had not. */
static u32 add_path(u8 *option, u32 size, u32 room, const DevicePath *node) {
    while (node->type != DEVICE_PATH_END) {
        u32 bytes = little_endian(node->length, 2);
        if (size + bytes > room)
            return room + 1;
        memcpy(option + size, node, bytes);
        size += bytes;
        node = (const DevicePath *)((const u8 *)node + bytes);
    }
    return size;
}

/* A load option (3.1.3): attributes, length of the path, description, path: of a file on the disk
 * that we came from, or, without a "disk", of a file without one, which boots nothing. */
static Status write_boot_entry(const u16 *name, const char *description, const DevicePath *disk,
                               const DevicePath *file) {
    static const DevicePath end = {DEVICE_PATH_END, 0xFF, {sizeof end, 0}};
    u8 option[512] = {LOAD_OPTION_ACTIVE};
    u32 size = 6, room = sizeof option - sizeof end;
    do {
        option[size++] = *description;
        option[size++] = 0;
    } while (*description++);
    u32 path = size;
    if (disk)
        size = add_path(option, size, room, disk);
    if (size <= room)
        size = add_path(option, size, room, file);
    if (size > room)
        return EFI_OUT_OF_RESOURCES;
    memcpy(option + size, &end, sizeof end);
    size += sizeof end;
    option[4] = size - path;
    option[5] = (size - path) >> 8;
    return write_variable(name, &global, option, size);
}

/* A boot entry for a second program on our disk. */
static Status write_own_entry(u32 number, const u16 *file) {
    static const Guid protocol = DEVICE_PATH_PROTOCOL;
    static const DevicePath end = {DEVICE_PATH_END, 0xFF, {sizeof end, 0}};
    u16 name[] = u"Boot0000";
    u8 node[64] = {DEVICE_PATH_MEDIA, DEVICE_PATH_FILE};
    u32 size = sizeof(DevicePath);
    DevicePath *disk;
    Status status = st->boot->handle_protocol(own_device, &protocol, &disk);
    if (status)
        return status;
    for (u32 at = 7; at > 3; at--, number >>= 4)
        name[at] = "0123456789ABCDEF"[number & 15];
    do {
        node[size++] = *file;
        node[size++] = 0;
    } while (*file++);
    node[2] = size;
    memcpy(node + size, &end, sizeof end);
    return write_boot_entry(name, "bootmatrix", disk, (const DevicePath *)node);
}

static Status put_first(u16 number) {
    u16 order[128];
    u64 size = read_variable(u"BootOrder", &global), count = 1;
    if (size > sizeof order - sizeof *order)
        return EFI_OUT_OF_RESOURCES;
    order[0] = number;
    for (u64 at = 0; at + 2 <= size; at += 2) {
        u16 other = little_endian(variable + at, 2);
        if (other != number)
            order[count++] = other;
    }
    return write_variable(u"BootOrder", &global, order, count * sizeof *order);
}

static void boot_by(u16 number, const u16 *file) {
    Status status = write_own_entry(number, file);
    if (!status)
        status = number == NEXT ? write_variable(u"BootNext", &global, &number, sizeof number)
                                : put_first(number);
    put_answer("written");
    put(" value=\"");
    put_utf16(file, STRING_SIZE - 1);
    put_char('"');
    put_result(status);
    end_line();
}

/* The file that the firmware has started, as it says. */
static void put_program(void) {
    const DevicePath *node = own_path;
    for (; node && node->type != DEVICE_PATH_END;
         node = (const DevicePath *)((const u8 *)node + little_endian(node->length, 2)))
        if (node->type == DEVICE_PATH_MEDIA && node->subtype == DEVICE_PATH_FILE)
            put_utf16((const u16 *)(node + 1), STRING_SIZE - 1);
}

static void write_value(void) {
    static const char prefix[] = "bootmatrix ";
    char text[STRING_SIZE];
    u32 size;
    put(prefix);
    put("boot-");
    put_decimal(boots);
    memcpy(text, line, length);
    size = length;
    text[size] = length = 0;
    const char *value = text + sizeof prefix - 1;

    Status status = write_variable(u"Value", &ours, value, size - (sizeof prefix - 1));
    if (!status)
        status = write_boot_entry(BOOT_ENTRY, text, 0, own_path);
    put_answer("written");
    put(" value=\"");
    put(value);
    put_char('"');
    put_result(status);
    end_line();
}

static void number_fill(u16 *name, u32 number) {
    for (u32 at = 7; at > 3; at--, number /= 10)
        name[at] = '0' + number % 10;
}

static void fill_store(void) {
    u16 name[] = u"Fill0000";
    u8 content[FILL_SIZE];
    u32 count = 0;
    Status status = EFI_SUCCESS;
    memset(content, 0xA5, sizeof content);
    while (!status && count < FILLS) {
        number_fill(name, count);
        if (read_variable(name, &ours) == 0)
            status = write_variable(name, &ours, content, sizeof content);
        if (!status)
            count++;
    }
    if (status && count) {              /* room for small updates */
        count--;
        number_fill(name, count);
        write_variable(name, &ours, 0, 0);
    }
    put_answer("filled");
    put(" count=");
    put_decimal(count);
    put(" size=");
    put_decimal(count * FILL_SIZE);
    if (status == EFI_OUT_OF_RESOURCES)
        put(" result=full");
    else
        put_result(status);
    end_line();
}

/* ---- The TPM ------------------------------------------------------------------------------- */

static void put_tpm(void) {
    if (!tcg2)
        return;
    begin(0x17E, 0);
    add_pcrs(TOLD);
    u32 code = submit();
    put(" secret=");
    if (seal)
        put(seal);
    else
        put_hexadecimal(seal_error);
    const u8 *at = response + 14 + 4 + 2 + 1 + 3 + 4;
    for (u32 pcr = 0; pcr < 8; pcr++)
        if (TOLD >> pcr & 1) {
            put(" pcr");
            put_decimal(pcr);
            put_char('=');
            for (u32 i = 0; !code && i < SHA256_SIZE; i += 4)
                put_hexadecimal(big_endian(at + 2 + i));
            at += 2 + SHA256_SIZE;
        }
    put(" blobs=\"");
    put_blobs();
    put_char('"');
}

/* ---- What is told -------------------------------------------------------------------------- */

static void put_identity(void) {        /* and the line's end */
    const u8 *bios = find_structure(0), *system = find_structure(1);
    put(" bios-vendor=\"");
    if (bios)
        put_smbios_string(bios, 4);
    put("\" bios-version=\"");
    if (bios)
        put_smbios_string(bios, 5);
    put("\" disk=\"");
    put(disk);
    put_char('"');
    put_fw_cfg();
    put(" acpi=");
    put_hexadecimal(sum_acpi());
    put(" smbios=");
    put_hexadecimal(sum_smbios());
    put(" machine=\"");
    if (system)
        put_smbios_string(system, 6);
    put("\" memory=");
    put_decimal(sum_memory());
    put(" cpus=");
    put_decimal(count_cpus());
#ifdef __x86_64__
    put(" cmos=");
    put_decimal(read_count());
#endif
    put(" uefi=\"");
    put_utf16(st->firmware_vendor, STRING_SIZE - 1);
    put("\" revision=");
    put_hexadecimal(st->firmware_revision);
    put(" secure-boot=");
    put_decimal(read_flag(u"SecureBoot"));
    put(" setup-mode=");
    put_decimal(read_flag(u"SetupMode"));
    put(" keys=");
    put_hexadecimal(sum_keys());
    put(" value=\"");
    u64 size = read_variable(u"Value", &ours);
    for (u64 i = 0; i < size && i < STRING_SIZE - 1; i++)
        put_char(printable(variable[i]));
    put("\" entry=\"");
    size = read_variable(BOOT_ENTRY, &global);
    if (size > 6)
        put_utf16((const u16 *)(variable + 6), STRING_SIZE - 1);
    put("\" program=\"");
    put_program();
    put_char('"');
    put_tpm();
    end_line();
}

static void put_counts(void) {
    put(" boot=");
    put_decimal(boots);
    put(" beat=");
    put_decimal(beats);
}

static void put_reset(const char *by) {
    put_answer("reset");
    put(" by=");
    put(by);
    end_line();
}

static void reset_by_firmware(const char *by, enum ResetType type) {
    put_reset(by);
    st->runtime->reset_system(type, EFI_SUCCESS, 0, 0);
}

static void obey(u16 command) {
    switch (command) {
    case '?':
        put_answer("here");
        put_counts();
        put_identity();
        break;
    case 'e': reset_by_firmware("efi-cold", RESET_COLD); break;
    case 'w': reset_by_firmware("efi-warm", RESET_WARM); break;
    case 's':
        put_answer("shutdown");
        end_line();
        st->runtime->reset_system(RESET_SHUTDOWN, EFI_SUCCESS, 0, 0);
        break;
    case 'v': write_value(); break;
    case 'b': boot_by(ORDERED, u"\\EFI\\GUEST\\OWN.EFI"); break;
    case 'p': enrol_keys(); break;
    case 'n': boot_by(NEXT, u"\\EFI\\GUEST\\NEXT.EFI"); break;
    case 'x': fill_store(); break;
#ifdef __x86_64__
    case 'c':
        put_reset("cf9");
        reset_by_cf9();
        break;
    case 'k':
        put_reset("keyboard");
        reset_by_keyboard();
        break;
    case 't':
        put_reset("triple-fault");
        reset_by_triple_fault();
        break;
#endif
    }
}

static void hear(u16 key) {
    if (key >= '0' && key <= '9') {
        if (digits < NONCE_SIZE)
            nonce[digits++] = key;
    } else {
        nonce[digits] = 0;
        obey(key);
        digits = 0;
    }
}

/* ---- Start --------------------------------------------------------------------------------- */

static void read_label(void) {
    u8 text[STRING_SIZE - 1];
    u64 size = read_file(u"\\LABEL", text, sizeof text);
    for (u64 i = 0; i < size; i++)
        disk[i] = printable(text[i]);
}

Status EFIAPI efi_main(Handle image, SystemTable *table) {
    static const Guid loaded_image = LOADED_IMAGE_PROTOCOL;
    LoadedImage *self;

    st = table;
    st->boot->set_watchdog_timer(0, 0, 0, 0);
    open_console();
    if (!st->boot->handle_protocol(image, &loaded_image, &self)) {
        own_path = self->file_path;
        own_device = self->device;
        read_label();
    }
    count_boot();
    try_secret();
    put("\r\nBOOTMATRIX up boot=");
    put_decimal(boots);
    put_identity();

    begin_to_wait();
    for (;;) {
        u16 key = wait();
        if (key) {
            hear(key);
        } else {
            beats++;
            put("BOOTMATRIX beat");
            put_counts();
            end_line();
        }
    }
}
