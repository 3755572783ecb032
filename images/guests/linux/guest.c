/* What speaks in the Linux guest: the lines of probe.asm and of uefi/probe.c, as Linux sees the
 * machine. harness/bootmatrix/witnesses/probe_line.py reads them. What is this one's own:
 *
 *   with a TPM, before what follows: pcr0=... pcr2=... pcr4=... pcr7=...
 *   at the end of "up" and "here": kernel="6.1.0-50-cloud-amd64" token="BOOT ID" uptime=3
 *       pci="00:00.0=8086:29c0 ..." blocks=1 net="52:54:00:12:34:56" link=1 replies=1
 *   BOOTMATRIX reset by=acpi
 *   BOOTMATRIX suspend
 *
 * Digits before a command come back in its answer, as probe.asm has it.
 * Commands, one byte each, anything else is ignored:
 *   ?  "here"
 *   c  k  t  a   reset by the kernel's reboot=pci, kbd, triple, acpi
 *   s  shutdown  z  suspend to RAM; after waking up the beats go on
 * and where UEFI started the kernel
 *   e  w         reset by reboot=efi, cold and warm
 *   v  write the variable Value and the boot entry Boot0B17, which boots nothing
 *   x  write variables Fill0000, Fill0001, ... until one is refused, then delete the last
 * Linux keeps 5 KiB of the store free, so it says "full" earlier than the firmware would.
 *
 * "boot" is the variable BootCount; without UEFI it lies in the CMOS, as probe.asm's does: "cmos" is
 * what stands there at the moment. "acpi" is over the same tables as theirs, but in the order of their
 * names. "memory" is the RAM that the firmware's map has, "cpus" are those that the kernel runs on.
 *
 * "pci" are the devices with their addresses, "blocks" how many disks there are. "net" is the address
 * of the network card, empty without one; with a link it asks QEMU's user-mode network for a file by
 * TFTP, and "replies" says whether anything came back, be it a refusal.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <net/route.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#define BEAT 500                        /* milliseconds */
#define STRING_SIZE 64                  /* of a string that is printed, with its NUL */
#define LINE_SIZE 3072                  /* the harness reads no longer ones */
#define CARD "eth0"
#define OWN_ADDRESS "10.0.2.15"         /* QEMU's user-mode network */
#define SERVER "10.0.2.2"
#define TFTP 69
#define REPLY 1000                      /* milliseconds */
#define TRIES 3
#define FW_CFG_SELECT 0x510
#define FW_CFG_DATA 0x511
#define FW_CFG_DIRECTORY 0x19
#define FW_CFG_MOST 4096
#define FW_CFG_HOST "opt/bootmatrix/host"
#define NONCE_SIZE 16
#define LARGEST 0x100000                /* bytes of a file that is read */
#define FILL_SIZE 7168
#define FILLS 10000
#define ACPI_TABLES "/sys/firmware/acpi/tables/"
#define ACPI_CHECKSUM 9
#define TPM2_LOG 68                     /* the address of the log in that table */
#define ACPI_OEM 10                     /* where a table's header names its maker */
#define SMBIOS "/sys/firmware/dmi/tables/DMI"
#define MEMORY_MAP "/sys/firmware/memmap/"
#define FNV_BASIS 0x811C9DC5u           /* FNV-1a, 32 bits */
#define FNV_PRIME 0x01000193u
#define TPM "/sys/class/tpm/tpm0"
#define SHA256_DIGITS 64
#define CMOS_INDEX 0x70
#define CMOS_DATA 0x71
#define CMOS_MAGIC 0x70                 /* two bytes, then the boot counter's two: probe.asm */
#define CMOS_BOOT 0x72
#define SYSTEM_TABLE_AT 0x1C4           /* in boot_params: low half, high half 16 bytes on */
#define FIRMWARE_REVISION 32            /* in the EFI system table */

#define EFIVARS "/sys/firmware/efi/efivars/"
#define OURS "6d74786f-6f62-4d42-9a1c-0b6f6f746d78"
#define GLOBAL "8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define SECURITY "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
#define NON_VOLATILE_BOOT_RUNTIME 7
#define BOOT_ENTRY "Boot0B17"
#define LOAD_OPTION_ACTIVE 1
#define DESCRIPTION_AT 6                /* in a load option */

static uint8_t content[LARGEST];
static char line[LINE_SIZE];
static size_t length;
static char nonce[NONCE_SIZE + 1];
static size_t digits;
static uint32_t boots, beats;
static int uefi;

/* ---- Lines --------------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line + length, LINE_SIZE - length, format, arguments);
    va_end(arguments);
    length = size < (int)(LINE_SIZE - length) ? length + size : LINE_SIZE - 1;
}

static void put_text(const char *name, const uint8_t *text, size_t size, size_t step) {
    put(" %s=\"", name);
    for (size_t i = 0; i + step <= size && i / step < STRING_SIZE - 1; i += step) {
        unsigned c = text[i] | (step == 2 ? text[i + 1] << 8 : 0);
        if (!c || c == '\n')
            break;
        put("%c", c < ' ' || c > '~' || c == '"' ? '?' : c);
    }
    put("\"");
}

static void put_answer(const char *kind) {
    put("BOOTMATRIX %s", kind);
    if (digits)
        put(" nonce=%.*s", (int)digits, nonce);
}

static void end_line(void) {            /* in one piece, and out when this returns */
    put("\r\n");
    for (size_t at = 0; at < length;) {
        ssize_t size = write(STDOUT_FILENO, line + at, length - at);
        if (size > 0)
            at += size;
    }
    tcdrain(STDOUT_FILENO);
    length = 0;
}

static uint32_t fnv(uint32_t sum, const uint8_t *at, size_t size) {
    for (; size; size--)
        sum = (sum ^ *at++) * FNV_PRIME;
    return sum;
}

/* ---- Files --------------------------------------------------------------------------------- */

static size_t read_at(const char *path, off_t offset, size_t room) {    /* into content */
    int file = open(path, O_RDONLY);
    size_t size = 0;
    ssize_t part;
    if (file < 0)
        return 0;
    while ((part = pread(file, content + size, room - size, offset + size)) > 0)
        size += part;
    close(file);
    return size;
}

static size_t read_file(const char *path) { return read_at(path, 0, LARGEST); }

static int write_file(const char *path, const void *data, size_t size, int flags) {
    int file = open(path, O_WRONLY | flags, 0644);
    if (file < 0)
        return errno;
    int error = write(file, data, size) == (ssize_t)size ? 0 : errno;
    close(file);
    return error;
}

static int write_text(const char *path, const char *text) {
    return write_file(path, text, strlen(text), 0);
}

static void put_file(const char *name, const char *path) {
    size_t size = read_file(path);
    put_text(name, content, size, 1);
}

static uint64_t little_endian(const uint8_t *at, int size) {
    uint64_t value = 0;
    while (size--)
        value = value << 8 | at[size];
    return value;
}

/* ---- UEFI's variables: efivarfs puts four bytes of attributes before each ------------------- */

static const char *variable_path(const char *name, const char *guid) {
    static char path[sizeof EFIVARS + 2 * STRING_SIZE];
    snprintf(path, sizeof path, EFIVARS "%s-%s", name, guid);
    return path;
}

static size_t read_variable(const char *name, const char *guid) {
    size_t size = read_file(variable_path(name, guid));
    if (size < 4)
        return 0;
    memmove(content, content + 4, size - 4);
    return size - 4;
}

/* Linux guards variables that it does not know by the immutable attribute. */
static void unlock(const char *path) {
    int none = 0, file = open(path, O_RDONLY);
    if (file >= 0) {
        ioctl(file, FS_IOC_SETFLAGS, &none);
        close(file);
    }
}

static void delete_variable(const char *name, const char *guid) {
    const char *path = variable_path(name, guid);
    unlock(path);
    unlink(path);
}

static int write_variable(const char *name, const char *guid, const void *data, size_t size) {
    uint8_t all[4 + FILL_SIZE] = {NON_VOLATILE_BOOT_RUNTIME};
    const char *path = variable_path(name, guid);
    int is_new = access(path, F_OK) != 0;
    memcpy(all + 4, data, size);
    unlock(path);
    int error = write_file(path, all, 4 + size, O_CREAT);
    if (error && is_new)
        delete_variable(name, guid);    /* the name of what was not written stays behind */
    return error;
}

static const char *status(int error) {  /* fs/efivarfs: efi_status_to_err */
    switch (error) {
    case 0: return "ok";
    case EINVAL: return "invalid-parameter";
    case ENOSPC: return "out-of-resources";
    case EIO: return "device-error";
    case EROFS: return "write-protected";
    case EACCES: return "security-violation";
    case ENOENT: return "not-found";
    default: return "other";
    }
}

/* A load option (UEFI 3.1.3): attributes, length of the path, description, path. The path names a
 * file that does not exist. */
static int write_boot_entry(const char *description) {
    static const uint8_t path[] = {4, 4, 8, 0, '-', 0, 0, 0, 0x7F, 0xFF, 4, 0};
    uint8_t option[256] = {LOAD_OPTION_ACTIVE, 0, 0, 0, sizeof path};
    size_t size = DESCRIPTION_AT;
    do {
        option[size++] = *description;
        option[size++] = 0;
    } while (*description++);
    memcpy(option + size, path, sizeof path);
    return write_variable(BOOT_ENTRY, GLOBAL, option, size + sizeof path);
}

static void write_value(void) {
    char description[STRING_SIZE];
    const char *value = description + strlen("bootmatrix ");
    snprintf(description, sizeof description, "bootmatrix boot-%u", boots);
    int error = write_variable("Value", OURS, value, strlen(value));
    if (!error)
        error = write_boot_entry(description);
    put_answer("written");
    put(" value=\"%s\" result=%s", value, status(error));
    end_line();
}

static void fill_store(void) {
    char name[STRING_SIZE];
    uint8_t data[FILL_SIZE];
    unsigned count = 0;
    int error = 0;
    memset(data, 0xA5, sizeof data);
    while (!error && count < FILLS) {
        snprintf(name, sizeof name, "Fill%04u", count);
        if (!read_variable(name, OURS))
            error = write_variable(name, OURS, data, sizeof data);
        if (!error)
            count++;
    }
    if (error && count) {               /* room for small updates */
        snprintf(name, sizeof name, "Fill%04u", --count);
        delete_variable(name, OURS);
    }
    put_answer("filled");
    put(" count=%u size=%u result=%s", count, count * FILL_SIZE,
        error == ENOSPC ? "full" : status(error));
    end_line();
}

/* ---- The boot counter ---------------------------------------------------------------------- */

static unsigned cmos_read(unsigned index) {
    outb(index, CMOS_INDEX);
    return inb(CMOS_DATA);
}

static void cmos_write(unsigned index, unsigned value) {
    outb(index, CMOS_INDEX);
    outb(value, CMOS_DATA);
}

static unsigned read_count(void) {      /* 0: that is lost */
    if (cmos_read(CMOS_MAGIC) != 'B' || cmos_read(CMOS_MAGIC + 1) != 'M')
        return 0;
    return cmos_read(CMOS_BOOT) | cmos_read(CMOS_BOOT + 1) << 8;
}

static void count_boot(void) {
    if (ioperm(CMOS_INDEX, 2, 1))
        return;
    unsigned count = read_count() + 1;
    cmos_write(CMOS_MAGIC, 'B');
    cmos_write(CMOS_MAGIC + 1, 'M');
    cmos_write(CMOS_BOOT, count & 0xFF);
    cmos_write(CMOS_BOOT + 1, count >> 8 & 0xFF);
    if (uefi) {
        if (read_variable("BootCount", OURS) == sizeof boots)
            boots = little_endian(content, sizeof boots);
        boots++;
        write_variable("BootCount", OURS, &boots, sizeof boots);
    } else {
        boots = count;
    }
}

/* ---- What is told -------------------------------------------------------------------------- */

/* As probe.asm: without the FADT, which holds addresses that depend on the firmware, and without the
 * end of TPM2, where the log is. QEMU's tables alone, known by their OEM: the firmware adds others. */
static uint32_t sum_acpi(void) {
    struct dirent **tables;
    int count = scandir(ACPI_TABLES, &tables, 0, alphasort);
    uint32_t sum = count > 0 ? FNV_BASIS : 0;
    for (int i = 0; i < count; i++) {
        char path[sizeof ACPI_TABLES + NAME_MAX];
        snprintf(path, sizeof path, ACPI_TABLES "%s", tables[i]->d_name);
        size_t size = read_file(path);
        if (memcmp(content, "FACP", 4) && size > ACPI_OEM + 6 &&
            !memcmp(content + ACPI_OEM, "BOCHS ", 6)) {
            if (!memcmp(content, "TPM2", 4) && size > TPM2_LOG) {
                size = TPM2_LOG;
                content[ACPI_CHECKSUM] = 0;
            }
            sum = fnv(sum, content, size);
        }
        free(tables[i]);
    }
    if (count > 0)
        free(tables);
    return sum;
}

/* As probe.asm: over all structures but the firmware's own, without their handles. */
static uint32_t sum_smbios(void) {
    size_t size = read_file(SMBIOS), at = 0;
    uint32_t sum = 0;
    while (at + 6 <= size && content[at] != 127) {
        size_t next = at + content[at + 1];
        while (next + 2 <= size && (content[next] || content[next + 1]))
            next++;
        next += 2;
        if (next > size)
            break;
        if (content[at] != 0) {
            sum = fnv(sum ? sum : FNV_BASIS, content + at, 2);
            sum = fnv(sum, content + at + 4, next - at - 4);
        }
        at = next;
    }
    return sum;
}

static uint64_t read_range(unsigned number, const char *what) {
    char path[sizeof MEMORY_MAP + 2 * STRING_SIZE];
    snprintf(path, sizeof path, MEMORY_MAP "%u/%s", number, what);
    content[read_at(path, 0, LARGEST - 1)] = 0;
    return strtoull((char *)content, 0, 16);
}

static unsigned sum_memory(void) {      /* KiB */
    uint64_t sum = 0;
    for (unsigned i = 0;; i++) {
        char path[sizeof MEMORY_MAP + STRING_SIZE];
        snprintf(path, sizeof path, MEMORY_MAP "%u/type", i);
        size_t size = read_at(path, 0, STRING_SIZE);
        if (!size)
            return sum >> 10;
        if (!memcmp(content, "System RAM", 10) || !memcmp(content, "ACPI ", 5))
            sum += read_range(i, "end") + 1 - read_range(i, "start");
    }
}

/* Where ACPI does not tell of the device, the kernel's driver does not find it: by its ports. */
static void select_fw_cfg(unsigned key) { outw(key, FW_CFG_SELECT); }

static void read_ports(uint8_t *to, size_t size) {
    while (size--)
        *to++ = inb(FW_CFG_DATA);
}

static void put_fw_cfg_by_ports(void) {
    uint8_t signature[4], features[4], entry[64];
    char host[STRING_SIZE] = "";
    if (ioperm(FW_CFG_SELECT, 2, 1))
        return put(" fw-cfg=\"\" features=0 host=\"\"");
    select_fw_cfg(0);
    read_ports(signature, 4);
    if (memcmp(signature, "QEMU", 4))
        return put(" fw-cfg=\"\" features=0 host=\"\"");
    select_fw_cfg(1);
    read_ports(features, 4);
    select_fw_cfg(FW_CFG_DIRECTORY);
    read_ports(entry, 4);
    uint32_t count = (uint32_t)entry[0] << 24 | entry[1] << 16 | entry[2] << 8 | entry[3];
    for (uint32_t i = 0; i < count && i < FW_CFG_MOST; i++) {
        read_ports(entry, sizeof entry);
        entry[sizeof entry - 1] = 0;
        if (strcmp((char *)entry + 8, FW_CFG_HOST))
            continue;
        uint32_t size = (uint32_t)entry[0] << 24 | entry[1] << 16 | entry[2] << 8 | entry[3];
        select_fw_cfg(entry[4] << 8 | entry[5]);
        read_ports((uint8_t *)host, size < sizeof host - 1 ? size : sizeof host - 1);
        break;
    }
    put(" fw-cfg=\"QEMU\" features=%u", (unsigned)little_endian(features, 4));
    put_text("host", (uint8_t *)host, strlen(host), 1);
}

static void load(const char *name) {
    char path[STRING_SIZE];
    snprintf(path, sizeof path, "/lib/modules/%s.ko", name);
    int module = open(path, O_RDONLY);
    syscall(SYS_finit_module, module, "", 0);
    close(module);
}

/* The driver keeps the directory that it found, and after a migration that is another QEMU's: it
 * has to be loaded anew. */
static void put_fw_cfg(void) {
    syscall(SYS_delete_module, "qemu_fw_cfg", O_NONBLOCK);
    load("qemu_fw_cfg");
    size_t size = read_at("/sys/firmware/qemu_fw_cfg/rev", 0, STRING_SIZE);
    if (!size)
        return put_fw_cfg_by_ports();
    content[size] = 0;
    put(" fw-cfg=\"%s\" features=%u", size ? "QEMU" : "", (unsigned)atoi((char *)content));
    put_file("host", "/sys/firmware/qemu_fw_cfg/by_name/opt/bootmatrix/host/raw");
}

static void put_flag(const char *name) {
    size_t size = read_variable(name, GLOBAL);
    put("%u", size && content[0] == 1);
}

/* The kernel tells the vendor's address, and where the system table was when it started. */
static void put_firmware(void) {
    uint64_t table, vendor;
    size_t size;
    char number[STRING_SIZE];
    size = read_at("/sys/firmware/efi/fw_vendor", 0, sizeof number - 1);
    content[size] = 0;
    vendor = strtoull((char *)content, 0, 16);
    size = vendor ? read_at("/dev/mem", vendor, 2 * STRING_SIZE) : 0;
    put_text("uefi", content, size, 2);
    memset(content, 0, FIRMWARE_REVISION + 4);
    read_file("/sys/kernel/boot_params/data");
    table = little_endian(content + SYSTEM_TABLE_AT, 4) |
            little_endian(content + SYSTEM_TABLE_AT + 0x14, 4) << 32;
    size = table ? read_at("/dev/mem", table, FIRMWARE_REVISION + 4) : 0;
    put(" revision=%08x", size ? (unsigned)little_endian(content + FIRMWARE_REVISION, 4) : 0);
}

static void put_keys(void) {
    static const char *const names[][2] = {
        {"PK", GLOBAL}, {"KEK", GLOBAL}, {"db", SECURITY}, {"dbx", SECURITY}};
    uint32_t sum = 0;
    for (int i = 0; i < 4; i++) {
        size_t size = read_variable(names[i][0], names[i][1]);
        if (size)
            sum = fnv(sum ? sum : FNV_BASIS, content, size);
    }
    put(" keys=%08x", sum);
}

static void put_uefi(void) {
    size_t size;
    put_firmware();
    put(" secure-boot=");
    put_flag("SecureBoot");
    put(" setup-mode=");
    put_flag("SetupMode");
    put_keys();
    size = read_variable("Value", OURS);
    put_text("value", content, size, 1);
    size = read_variable(BOOT_ENTRY, GLOBAL);
    put_text("entry", content + DESCRIPTION_AT, size > DESCRIPTION_AT ? size - DESCRIPTION_AT : 0, 2);
}

/* What the firmware has measured, as the kernel reads it from the TPM: upper-case digits, a line. */
static void put_tpm(void) {
    static const int told[] = {0, 2, 4, 7};
    char path[STRING_SIZE * 2];
    if (access(TPM, F_OK))
        return;
    for (unsigned i = 0; i < sizeof told / sizeof *told; i++) {
        snprintf(path, sizeof path, TPM "/pcr-sha256/%d", told[i]);
        size_t size = read_at(path, 0, SHA256_DIGITS);
        for (size_t at = 0; at < size; at++)
            content[at] = tolower(content[at]);
        content[size] = 0;
        put(" pcr%d=%.*s", told[i], (int)strspn((char *)content, "0123456789abcdef"), content);
    }
}

static void put_disk(void) {            /* its label: the disk's command line has it */
    static const char key[] = "bootmatrix.disk=";
    content[read_at("/proc/cmdline", 0, LARGEST - 1)] = 0;
    char *label = strstr((char *)content, key);
    label = label ? label + sizeof key - 1 : "";
    put_text("disk", (uint8_t *)label, strcspn(label, " \n"), 1);
}

static int none_of(const struct dirent *entry) {
    static const char *const kinds[] = {"vd", "sd", "nvme", "hd"};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strncmp(entry->d_name, kinds[i], strlen(kinds[i])))
            return 1;
    return 0;
}

static unsigned read_id(const char *device, const char *what) {
    char path[STRING_SIZE * 2 + NAME_MAX];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", device, what);
    content[read_at(path, 0, STRING_SIZE)] = 0;
    return strtoul((char *)content, 0, 16) & 0xFFFF;
}

static void put_devices(void) {
    struct dirent **found;
    int count = scandir("/sys/bus/pci/devices", &found, 0, alphasort);
    const char *space = "";
    put(" pci=\"");
    for (int i = 0; i < count; i++) {
        if (strlen(found[i]->d_name) == 12 && length < LINE_SIZE - 256) {
            unsigned vendor = read_id(found[i]->d_name, "vendor");
            put("%s%s=%04x:%04x", space, found[i]->d_name + 5, vendor,
                read_id(found[i]->d_name, "device"));
            space = " ";
        }
        free(found[i]);
    }
    if (count > 0)
        free(found);
    count = scandir("/sys/block", &found, none_of, alphasort);
    put("\" blocks=%d", count < 0 ? 0 : count);
    for (int i = 0; i < count; i++)
        free(found[i]);
    if (count >= 0)
        free(found);
}

static void bring_up(void) {
    struct ifreq card = {.ifr_name = CARD};
    struct sockaddr_in address = {.sin_family = AF_INET};
    int with = socket(AF_INET, SOCK_DGRAM, 0);
    inet_aton(OWN_ADDRESS, &address.sin_addr);
    memcpy(&card.ifr_addr, &address, sizeof address);
    ioctl(with, SIOCSIFADDR, &card);
    inet_aton("255.255.255.0", &address.sin_addr);
    memcpy(&card.ifr_netmask, &address, sizeof address);
    ioctl(with, SIOCSIFNETMASK, &card);
    card.ifr_flags = IFF_UP | IFF_RUNNING;
    ioctl(with, SIOCSIFFLAGS, &card);
    close(with);
}

static int replies(void) {              /* any answer will do: there is no such file */
    static const char request[] = "\0\1bootmatrix\0octet";
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(TFTP)};
    char reply[STRING_SIZE];
    int with = socket(AF_INET, SOCK_DGRAM, 0), came = 0;
    inet_aton(SERVER, &server.sin_addr);
    for (int i = 0; i < TRIES && !came; i++) {
        struct pollfd input = {with, POLLIN, 0};
        sendto(with, request, sizeof request, 0, (struct sockaddr *)&server, sizeof server);
        came = poll(&input, 1, REPLY) == 1 && read(with, reply, sizeof reply) > 0;
    }
    close(with);
    return came;
}

static void put_net(void) {
    size_t size = read_at("/sys/class/net/" CARD "/address", 0, STRING_SIZE);
    put_text("net", content, size, 1);
    if (size)
        bring_up();
    content[0] = '0';
    size = size ? read_at("/sys/class/net/" CARD "/carrier", 0, 2) : 0;
    int link = size && content[0] == '1';
    put(" link=%d replies=%d", link, link ? replies() : 0);
}

static void put_identity(void) {        /* and the line's end */
    struct utsname system;
    put_file("bios-vendor", "/sys/class/dmi/id/bios_vendor");
    put_file("bios-version", "/sys/class/dmi/id/bios_version");
    put_disk();
    put_fw_cfg();
    put(" acpi=%08x smbios=%08x", sum_acpi(), sum_smbios());
    put_file("machine", "/sys/class/dmi/id/product_version");
    put(" memory=%u cpus=%ld cmos=%u", sum_memory(), sysconf(_SC_NPROCESSORS_ONLN), read_count());
    if (uefi)
        put_uefi();
    put_tpm();
    uname(&system);
    put(" kernel=\"%s\"", system.release);
    put_file("token", "/proc/sys/kernel/random/boot_id");
    content[read_at("/proc/uptime", 0, STRING_SIZE)] = 0;
    put(" uptime=%u", (unsigned)atoi((char *)content));
    put_devices();
    put_net();
    end_line();
}

/* ---- Commands ------------------------------------------------------------------------------ */

static void reset(const char *by, const char *type, const char *mode) {
    put_answer("reset");
    put(" by=%s", by);
    end_line();
    write_text("/sys/kernel/reboot/type", type);
    write_text("/sys/kernel/reboot/mode", mode);
    reboot(RB_AUTOBOOT);
}

static void obey(char command) {
    switch (command) {
    case '?':
        put_answer("here");
        put(" boot=%u beat=%u", boots, beats);
        put_identity();
        break;
    case 'c': reset("cf9", "pci", "cold"); break;
    case 'k': reset("keyboard", "kbd", "cold"); break;
    case 't': reset("triple-fault", "triple", "cold"); break;
    case 'a': reset("acpi", "acpi", "cold"); break;
    case 's':
        put_answer("shutdown");
        end_line();
        reboot(RB_POWER_OFF);
        break;
    case 'z':
        put_answer("suspend");
        end_line();
        write_text("/sys/power/mem_sleep", "deep");
        write_text("/sys/power/state", "mem");
        break;
    }
    if (uefi)
        switch (command) {
        case 'e': reset("efi-cold", "efi", "cold"); break;
        case 'w': reset("efi-warm", "efi", "warm"); break;
        case 'v': write_value(); break;
        case 'x': fill_store(); break;
        }
}

static void hear(char key) {
    if (key >= '0' && key <= '9') {
        if (digits < NONCE_SIZE)
            nonce[digits++] = key;
    } else {
        obey(key);
        digits = 0;
    }
}

/* ---- The first process --------------------------------------------------------------------- */

/* In the order in which they need each other; what has no device does no harm. */
static const char *const drivers[] = {
    "virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
    "virtio_mmio", "failover", "net_failover", "virtio_net", "virtio_blk", "virtio_balloon",
    "virtio-rng", "scsi_common", "scsi_mod", "sd_mod", "virtio_scsi", "libata", "ata_piix",
    "virtio_console",
};

/* Here, and not by a command each in /init: under TCG each of those costs as much as a driver. */
static void set_up(void) {
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    if (access("/sys/firmware/efi", F_OK) == 0) {
        load("efivarfs");
        mount("efivarfs", EFIVARS, "efivarfs", 0, NULL);
    }
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
        load(drivers[i]);
}

int main(void) {
    set_up();
    struct termios terminal;
    tcgetattr(STDIN_FILENO, &terminal);
    cfmakeraw(&terminal);
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal);

    uefi = access("/sys/firmware/efi", F_OK) == 0;
    count_boot();
    put("\r\nBOOTMATRIX up boot=%u", boots);
    put_identity();
    for (;;) {
        struct pollfd input = {STDIN_FILENO, POLLIN, 0};
        char command;
        if (poll(&input, 1, BEAT) == 0) {
            put("BOOTMATRIX beat boot=%u beat=%u", boots, ++beats);
            end_line();
        } else if (read(STDIN_FILENO, &command, 1) == 1) {
            hear(command);
        }
    }
}
