/* The probe guest of Open Firmware: a client program that says on the console which boot this is,
 * which firmware it found, then beats until it is told to do something. probe.asm describes the
 * lines and commands that all probes have, harness/bootmatrix/witnesses/probe_line.py reads them.
 * What is this one's own:
 *
 *   BOOTMATRIX up boot=2 bios-vendor="SLOF" bios-version="HEAD" disk="A" memory=262144 cpus=1 cmos=2
 *   BOOTMATRIX reset by=rtas
 *
 * "boot" and "cmos" count boots in the last bytes of the machine's NVRAM, which lie in its free
 * space: "boot" as it was at the start, "cmos" as it is at the moment. bios-vendor and bios-version
 * are the model of /openprom. There is neither fw_cfg nor ACPI nor SMBIOS. Commands are "?" and
 *   r  reset by the run-time abstraction service system-reboot
 *
 * Arguments are cells of 32 bits (IEEE 1275-1994, 6.3, and its PowerPC binding, 6.3.1).
 *
 * SPDX-License-Identifier: MIT
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define STRING_SIZE 64                  /* of a string that is printed, with its NUL */
#define PROPERTY_SIZE 1024
#define RTAS_SIZE 0x4000
#define HALF_SECOND 500                 /* in milliseconds */
#define NONE 0xFFFFFFFFu
#define MAGIC 0x424D5458u               /* "BMTX", before the count */

void rtas(u32 arguments, u32 base, u32 entry);

static u32 (*client)(void *arguments);
static u32 in, out, rtas_entry, fetch, store, reboot, nvram_size;
static u32 boots, beats;
static u8 property[PROPERTY_SIZE];
static u8 rtas_memory[RTAS_SIZE] __attribute__((aligned(4096)));
static char model[STRING_SIZE];

/* ---- Bytes: clang may call these by itself ------------------------------------------------- */

void *memset(void *to, int value, u32 size) {
    for (u8 *at = to; size; size--)
        *at++ = value;
    return to;
}

void *memcpy(void *to, const void *from, u32 size) {
    for (u32 i = 0; i < size; i++)
        ((u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

static int same(const char *one, const char *other) {
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

/* ---- The client interface ------------------------------------------------------------------ */

/* Call a service with up to four arguments; its first result, or NONE where it is not there. */
static u32 call(const char *service, u32 arguments, u32 a, u32 b, u32 c, u32 d) {
    u32 cells[8] = {(u32)service, arguments, 1, a, b, c, d};
    cells[3 + arguments] = NONE;
    return client(cells) ? NONE : cells[3 + arguments];
}

static u32 find(const char *path) {
    return call("finddevice", 1, (u32)path, 0, 0, 0);
}

/* The bytes of a property, as many as there are and fit; 0 where there is none. */
static u32 get(u32 node, const char *name) {
    u32 size = call("getprop", 4, node, (u32)name, (u32)property, PROPERTY_SIZE);
    return size == NONE ? 0 : size < PROPERTY_SIZE ? size : PROPERTY_SIZE;
}

static u32 get_cell(u32 node, const char *name) {
    return get(node, name) >= 4 ? *(u32 *)property : NONE;
}

static int is_a(u32 node, const char *type) {
    u32 size = get(node, "device_type");
    property[size < PROPERTY_SIZE ? size : PROPERTY_SIZE - 1] = 0;
    return size && same((char *)property, type);
}

/* ---- The run-time abstraction services ------------------------------------------------------ */

/* Call one; its status, 0 where all is well. */
static u32 service(u32 token, u32 arguments, u32 results, u32 a, u32 b, u32 c) {
    static u32 cells[9];
    cells[0] = token, cells[1] = arguments, cells[2] = results;
    cells[3] = a, cells[4] = b, cells[5] = c;
    cells[3 + arguments] = NONE;
    rtas((u32)cells, (u32)rtas_memory, rtas_entry);
    return cells[3 + arguments];
}

static void find_rtas(void) {
    u32 node = find("/rtas"), cells[8];
    fetch = get_cell(node, "nvram-fetch");
    store = get_cell(node, "nvram-store");
    reboot = get_cell(node, "system-reboot");
    u32 handle = call("open", 1, (u32)"/rtas", 0, 0, 0);
    cells[0] = (u32)"call-method", cells[1] = 3, cells[2] = 2;
    cells[3] = (u32)"instantiate-rtas", cells[4] = handle, cells[5] = (u32)rtas_memory;
    cells[6] = NONE, cells[7] = 0;
    if (!client(cells) && !cells[6])
        rtas_entry = cells[7];
}

/* The count of boots in NVRAM, 0 where there is none. */
static u32 count(void) {
    static u32 kept[2];
    kept[0] = 0;
    if (!rtas_entry || nvram_size == NONE || nvram_size < sizeof kept)
        return 0;
    if (service(fetch, 3, 2, nvram_size - sizeof kept, (u32)kept, sizeof kept))
        return 0;
    return kept[0] == MAGIC ? kept[1] : 0;
}

static void keep_count(u32 number) {
    static u32 kept[2];
    kept[0] = MAGIC, kept[1] = number;
    if (rtas_entry && nvram_size != NONE && nvram_size >= sizeof kept)
        service(store, 3, 2, nvram_size - sizeof kept, (u32)kept, sizeof kept);
}

/* ---- Lines --------------------------------------------------------------------------------- */

#include "line.h"

static void put_string(const char *text) {
    put_char('"');
    for (; *text; text++)
        put_char(printable(*text));
    put_char('"');
}

static void say(void) {
    put("\r\n");
    for (u32 at = 0; at < length;) {
        u32 written = call("write", 3, out, (u32)line + at, length - at, 0);
        if (!written || written > length - at)
            break;
        at += written;
    }
    length = 0;
}

/* ---- What it finds -------------------------------------------------------------------------- */

/* KiB in all nodes of memory: address and size have two cells each. */
static u32 memory(void) {
    u32 sum = 0;
    for (u32 node = call("child", 1, find("/"), 0, 0, 0); node && node != NONE;
         node = call("peer", 1, node, 0, 0, 0))
        if (is_a(node, "memory")) {
            u32 size = get(node, "reg");
            for (u32 at = 0; at + 16 <= size; at += 16)
                sum += *(u64 *)(property + at + 8) >> 10;
        }
    return sum;
}

/* Threads of all cores: each has a number as an interrupt server. */
static u32 cpus(void) {
    u32 sum = 0;
    for (u32 node = call("child", 1, find("/cpus"), 0, 0, 0); node && node != NONE;
         node = call("peer", 1, node, 0, 0, 0))
        if (is_a(node, "cpu"))
            sum += get(node, "ibm,ppc-interrupt-server#s") / 4;
    return sum;
}

/* "SLOF,HEAD": who made it, and what it was made of. */
static void put_model(void) {
    u32 size = get(find("/openprom"), "model");
    if (size >= STRING_SIZE)
        size = STRING_SIZE - 1;
    memcpy(model, property, size);
    model[size] = 0;
    char *version = model;
    while (*version && *version != ',')
        version++;
    if (*version)
        *version++ = 0;
    put(" bios-vendor=");
    put_string(model);
    put(" bios-version=");
    put_string(version);
}

static void put_state(void) {
    put_model();
    put(" disk=\"" LABEL "\" memory=");
    put_decimal(memory());
    put(" cpus=");
    put_decimal(cpus());
    put(" cmos=");
    put_decimal(count());
}

static void put_boot(void) {
    put(" boot=");
    put_decimal(boots);
}

static void put_beat(void) {
    put(" beat=");
    put_decimal(beats);
}

/* ---- What it does ---------------------------------------------------------------------------- */

static void obey(u8 key) {
    if (key >= '0' && key <= '9') {
        if (digits < NONCE_SIZE)
            nonce[digits++] = key;
        nonce[digits] = 0;
        return;
    }
    if (key == '?') {
        put_answer("here");
        put_boot();
        put_beat();
        put_state();
        say();
    } else if (key == 'r') {
        put_answer("reset");
        put(" by=rtas");
        say();
        service(reboot, 0, 1, 0, 0, 0);
    }
    digits = 0;
}

void main(void *interface) {
    client = (u32 (*)(void *))interface;
    u32 chosen = find("/chosen");
    in = get_cell(chosen, "stdin");
    out = get_cell(chosen, "stdout");
    find_rtas();
    nvram_size = get_cell(find("nvram"), "#bytes");
    boots = count() + 1;
    keep_count(boots);
    put("BOOTMATRIX up");
    put_boot();
    put_state();
    say();
    u32 last = call("milliseconds", 0, 0, 0, 0, 0);
    for (;;) {
        u8 key;
        if (call("read", 3, in, (u32)&key, 1, 0) == 1)
            obey(key);
        u32 now = call("milliseconds", 0, 0, 0, 0, 0);
        if (now - last >= HALF_SECOND) {
            last = now;
            beats++;
            put("BOOTMATRIX beat");
            put_boot();
            put_beat();
            say();
        }
    }
}
