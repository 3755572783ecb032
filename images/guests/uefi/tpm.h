/* The TPM, by commands of our own (TCG's TPM 2.0 Library, part 3): what the firmware has measured,
 * what of it is in the log, and a secret that is sealed to it at the first boot and asked for at each later one. The secret is
 * in the TPM, and goes where that goes; it needs no disk and no variable.
 *
 * SPDX-License-Identifier: MIT
 */
#define RESPONSE_SIZE 1024
#define SUCCESS 0
#define NO_SUCH_HANDLE 0x18B            /* TPM_RC_HANDLE of the first handle */
#define POLICY_FAILED 0x99D             /* TPM_RC_POLICY_FAIL of the first session */
#define NOT_ANSWERED 0xFFFFFFFFu
#define OWNER 0x40000001u
#define NOBODY 0x40000007u
#define PASSWORD 0x40000009u
#define SECRET_HANDLE 0x81010B17u       /* persistent, and the owner's */
#define SHA256 0x000B
#define SHA256_SIZE 32
#define NO_ALGORITHM 0x0010
#define KEYED_HASH 0x0008
#define FIXED 0x412                     /* to this TPM and its seed, and none to be locked by guessing */
#define TRIAL 3
#define POLICY 1
#define TOLD (1 << 0 | 1 << 2 | 1 << 4 | 1 << 7)
#define SEALED_TO (1 << 0 | 1 << 7)
#define CRYPTO_AGILE 2                  /* the format of the log that has SHA-256 */
#define FIRMWARE_BLOB 0x80000008u
#define FIRMWARE_BLOB2 0x8000000Au      /* with a description before it */
#define MOST_ALGORITHMS 8

static const char secret[16] = "BOOTMATRIX tells";

static Tcg2 *tcg2;
static const char *seal;                /* what became of the secret in this boot */
static u32 seal_error;
static u8 command[RESPONSE_SIZE], response[RESPONSE_SIZE];
static u32 command_size;

static void add(u32 value, u32 size) {
    while (size--)
        command[command_size++] = value >> 8 * size;
}

static void add_bytes(const void *bytes, u32 size) {    /* with their size before them */
    add(size, 2);
    memcpy(command + command_size, bytes, size);
    command_size += size;
}

static void begin(u32 code, int with_sessions) {
    command_size = 0;
    add(with_sessions ? 0x8002 : 0x8001, 2);
    add(0, 4);
    add(code, 4);
}

static u32 submit(void) {               /* its response code */
    u32 size = command_size;
    command_size = 2;
    add(size, 4);
    memset(response, 0, sizeof response);
    if (tcg2->submit_command(tcg2, size, command, sizeof response, response))
        return NOT_ANSWERED;
    return big_endian(response + 6);
}

static void add_session(u32 handle) {   /* the only one, without anything to prove */
    add(9, 4);
    add(handle, 4);
    add(0, 2);
    add(0, 1);
    add(0, 2);
}

static void add_pcrs(u32 pcrs) {        /* of the bank for SHA-256 */
    add(1, 4);
    add(SHA256, 2);
    add(3, 1);
    add(pcrs, 1);
    add(0, 2);
}

static void flush(u32 handle) {
    begin(0x165, 0);
    add(handle, 4);
    submit();
}

/* A session whose policy are the PCRs as they are now. */
static u32 start_policy(u32 kind, u32 *session) {
    static const u8 nonce[16];
    begin(0x176, 0);
    add(NOBODY, 4);
    add(NOBODY, 4);
    add_bytes(nonce, sizeof nonce);
    add(0, 2);
    add(kind, 1);
    add(NO_ALGORITHM, 2);
    add(SHA256, 2);
    u32 code = submit();
    if (code)
        return code;
    *session = big_endian(response + 10);
    begin(0x17F, 0);
    add(*session, 4);
    add(0, 2);
    add_pcrs(SEALED_TO);
    if ((code = submit()))
        flush(*session);
    return code;
}

static u32 seal_secret(void) {
    u8 policy[SHA256_SIZE];
    u32 session, code = start_policy(TRIAL, &session);
    if (code)
        return code;
    begin(0x189, 0);
    add(session, 4);
    code = submit();
    memcpy(policy, response + 12, sizeof policy);
    flush(session);
    if (code)
        return code;

    begin(0x131, 1);                    /* an object of the owner's, without a parent */
    add(OWNER, 4);
    add_session(PASSWORD);
    add(4 + sizeof secret, 2);
    add(0, 2);
    add_bytes(secret, sizeof secret);
    add(2 + 2 + 4 + 2 + sizeof policy + 2 + 2, 2);
    add(KEYED_HASH, 2);
    add(SHA256, 2);
    add(FIXED, 4);
    add_bytes(policy, sizeof policy);
    add(NO_ALGORITHM, 2);
    add(0, 2);
    add(0, 2);
    add(0, 4);
    if ((code = submit()))
        return code;
    u32 object = big_endian(response + 10);

    begin(0x120, 1);
    add(OWNER, 4);
    add(object, 4);
    add_session(PASSWORD);
    add(SECRET_HANDLE, 4);
    code = submit();
    flush(object);
    return code;
}

static u32 unseal_secret(void) {
    u32 session, code = start_policy(POLICY, &session);
    if (code)
        return code;
    begin(0x15E, 1);
    add(SECRET_HANDLE, 4);
    add_session(session);
    code = submit();
    if (code)
        flush(session);                 /* else it has ended with the command */
    return code;
}

/* At the first boot seal the secret, at a later one ask for it. */
static void try_secret(void) {
    static const Guid guid = TCG2_PROTOCOL;
    if (st->boot->locate_protocol(&guid, 0, &tcg2)) {
        tcg2 = 0;
        return;
    }
    seal_error = unseal_secret();
    if (seal_error == POLICY_FAILED) {
        seal = "locked-out";
    } else if (seal_error == NO_SUCH_HANDLE) {
        if (!(seal_error = seal_secret()))
            seal = "sealed";
    } else if (!seal_error && equal(response + 16, secret, sizeof secret)) {
        seal = "unlocked";
    }
}

/* ---- The log (TCG PC Client Platform Firmware Profile, 10) ---------------------------------- */

static u16 algorithms[MOST_ALGORITHMS], sizes[MOST_ALGORITHMS];
static u32 algorithm_count;

static void put_blob(const u8 *event, u32 size, u32 type, const u8 *digest) {
    if (type == FIRMWARE_BLOB2 && size) {
        u32 description = 1 + event[0];
        event += description;
        size = size > description ? size - description : 0;
    }
    if (size < 16 || !digest)
        return;
    put_char(' ');
    put_hexadecimal(little_endian(event, 8));
    put_char('+');
    put_hexadecimal(little_endian(event + 8, 8));
    put_char('=');
    put_hexadecimal(big_endian(digest));
}

/* An event of the log, and where the next one begins; 0: it has a digest of no algorithm there. */
static const u8 *put_event(const u8 *at) {
    u32 pcr = little_endian(at, 4), type = little_endian(at + 4, 4);
    u32 digests = little_endian(at + 8, 4);
    const u8 *digest = 0;
    for (at += 12; digests; digests--) {
        u32 i = 0, algorithm = little_endian(at, 2);
        while (i < algorithm_count && algorithms[i] != algorithm)
            i++;
        if (i == algorithm_count)
            return 0;
        if (algorithm == SHA256)
            digest = at + 2;
        at += 2 + sizes[i];
    }
    u32 size = little_endian(at, 4);
    at += 4;
    if (!pcr && (type == FIRMWARE_BLOB || type == FIRMWARE_BLOB2))
        put_blob(at, size, type, digest);
    return at + size;
}

/* The firmware that is measured into PCR 0: where it lies, how long it is, and the beginning of its
 * SHA-256. The log begins with an event of an older format, which tells of the algorithms. */
static void put_blobs(void) {
    u64 first, last;
    u8 truncated;
    if (tcg2->get_event_log(tcg2, CRYPTO_AGILE, &first, &last, &truncated) || !first)
        return;
    const u8 *at = (const u8 *)first + 32;
    algorithm_count = little_endian(at + 24, 4);
    if (algorithm_count > MOST_ALGORITHMS)
        return;
    for (u32 i = 0; i < algorithm_count; i++) {
        algorithms[i] = little_endian(at + 28 + 4 * i, 2);
        sizes[i] = little_endian(at + 30 + 4 * i, 2);
    }
    at += little_endian(at - 4, 4);
    while (at && at <= (const u8 *)last)
        at = put_event(at);
}
