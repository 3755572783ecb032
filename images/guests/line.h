/* The lines of a probe that is compiled: its own bytes, its own digits. u8 and u32 are the
 * including file's, and how a line is written out; harness/bootmatrix/witnesses/probe_line.py reads
 * them.
 *
 * SPDX-License-Identifier: MIT
 */
#define LINE_SIZE 2048
#define NONCE_SIZE 16

static char line[LINE_SIZE];
static u32 length;
static char nonce[NONCE_SIZE + 1];
static u32 digits;

static void put_char(char c) {
    if (length < LINE_SIZE)
        line[length++] = c;
}

static void put(const char *text) {
    while (*text)
        put_char(*text++);
}

static void put_decimal(u32 value) {
    if (value >= 10)
        put_decimal(value / 10);
    put_char('0' + value % 10);
}

static char printable(u32 c) {
    return c < ' ' || c > '~' || c == '"' ? '?' : c;
}

/* A line's beginning; where somebody has asked with a nonce, it has that. */
static void put_answer(const char *kind) {
    put("BOOTMATRIX ");
    put(kind);
    if (digits) {
        put(" nonce=");
        put(nonce);
    }
}
