/* What differs between QEMU's machines: the serial console, fw_cfg (QEMU's docs/specs/fw_cfg:
 * "Register Locations"), the CMOS, and the resets that x86 has beside the firmware's own.
 *
 * SPDX-License-Identifier: MIT
 */
#define FW_CFG_SIGNATURE 0x00
#define FW_CFG_ID 0x01
#define FW_CFG_FILE_DIR 0x19

#if defined(__x86_64__)

static void out8(u16 port, u8 value) {
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static u8 in8(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/* COM1 itself: EDK II's driver waits for the length of two characters, and a byte that waited longer
 * is reported as not written, and sent nevertheless. */
static void open_console(void) {}

static void write_console(const char *text, u32 size) {
    for (; size; size--) {
        while (!(in8(0x3F8 + 5) & 0x20)) {}
        out8(0x3F8, *text++);
    }
}

static int has_fw_cfg(void) { return 1; }

static void select_fw_cfg(u16 key) {
    __asm__ volatile("outw %0, %1" ::"a"(key), "Nd"((u16)0x510) : "memory");
}

static u8 read_fw_cfg_byte(void) { return in8(0x511); }

static u8 read_cmos(u8 index) {
    out8(0x70, index);
    return in8(0x71);
}

static void write_cmos(u8 index, u8 value) {
    out8(0x70, index);
    out8(0x71, value);
}

static void reset_by_cf9(void) {
    out8(0xCF9, 0x02);
    out8(0xCF9, 0x06);
}

static void reset_by_keyboard(void) {
    for (u32 i = 0; i < 100000 && in8(0x64) & 2; i++) {}
    out8(0x64, 0xFE);
}

static void reset_by_triple_fault(void) {
    struct __attribute__((packed)) { u16 limit; u64 base; } none = {0, 0};
    __asm__ volatile("cli; lidt %0; int3" ::"m"(none) : "memory");
}

#else

static SerialIo *serial;

static void open_console(void) {
    static const Guid serial_io = SERIAL_IO_PROTOCOL;
    if (st->boot->locate_protocol(&serial_io, 0, &serial))
        serial = 0;                     /* U-Boot has none */
}

/* Past the console's driver where that is possible: it would add escape sequences. */
static void write_console(const char *text, u32 size) {
    for (u32 at = 0; at < size;) {
        u64 bytes = size - at;
        if (serial) {
            serial->write(serial, &bytes, text + at);
        } else {
            u16 character[2] = {text[at], 0};
            if (text[at] != '\r')       /* U-Boot makes CR LF of LF */
                st->console_out->output_string(st->console_out, character);
            bytes = 1;
        }
        at += bytes;
    }
}

#if defined(__aarch64__)
#define FW_CFG 0x09020000ul             /* hw/arm/virt.c */
static int has_fw_cfg(void) { return 1; }
#elif defined(__loongarch64)
#define FW_CFG 0x1E020000ul             /* include/hw/loongarch/virt.h */
static int has_fw_cfg(void) { return 1; }
#else
#define FW_CFG 0x10100000ul             /* hw/riscv/virt.c, since QEMU 6.0 */
static int has_fw_cfg(void) {           /* where there is none, reading would trap */
    static const Guid device_tree = DEVICE_TREE_TABLE;
    static const char device[] = "qemu,fw-cfg-mmio";
    const u8 *tree = find_table(&device_tree);
    u32 size = tree ? big_endian(tree + 4) : 0;
    for (u32 at = 0; at + sizeof device <= size; at++)
        if (equal(tree + at, device, sizeof device))
            return 1;
    return 0;
}
#endif

static void select_fw_cfg(u16 key) {
    *(volatile u16 *)(FW_CFG + 8) = __builtin_bswap16(key);
}

static u8 read_fw_cfg_byte(void) { return *(volatile u8 *)FW_CFG; }

#endif

#if defined(__loongarch64)

/* Without its timer: QEMU 10.0 leaves it behind in a migration, and 11.1 forgets an interrupt of its
 * that is pending then or at a reset. Whoever waits for one waits for ever. */
#define TICKS (BEAT * 10)               /* QEMU's counter has one each 10 ns, UEFI's times 100 ns */
#define INPUT_BUFFER_EMPTY 0x100

static u64 counter(void) {
    u64 now;
    __asm__ volatile("rdtime.d %0, $zero" : "=r"(now));
    return now;
}

static void begin_to_wait(void) {
    u64 off = 0, pending = 1;
    __asm__ volatile("csrwr %0, 0x41" : "+r"(off));      /* TCFG */
    __asm__ volatile("csrwr %0, 0x44" : "+r"(pending));  /* TICLR */
}

/* The key that was typed; 0: it is time for a beat. */
static u16 wait(void) {
    static u64 last;
    for (;;) {
        u32 control = 0;
        u64 size = 1;
        u8 key = 0;
        if (counter() - last >= TICKS) {
            last = counter();
            return 0;
        }
        if (!serial->get_control(serial, &control) && !(control & INPUT_BUFFER_EMPTY)
            && !serial->read(serial, &size, &key) && key)
            return key;
    }
}

#else

static Event events[2];

static void begin_to_wait(void) {
    events[0] = st->console_in->wait_for_key;
    st->boot->create_event(EVT_TIMER, 0, 0, 0, &events[1]);
    st->boot->set_timer(events[1], TIMER_PERIODIC, BEAT);
}

/* The key that was typed; 0: it is time for a beat. */
static u16 wait(void) {
    for (;;) {
        u64 which;
        Key key;
        st->boot->wait_for_event(2, events, &which);
        if (which == 1)
            return 0;
        if (!st->console_in->read_key_stroke(st->console_in, &key) && key.unicode)
            return key.unicode;
    }
}

#endif
