/* The few declarations of the UEFI specification 2.10 that the probe needs: chapters 4 (system
 * table, configuration tables), 7 (boot services), 8 (runtime services), 9 (loaded image),
 * 10.2, 10.3 (device paths), 12.3, 12.4 (console), 12.8 (serial I/O), 13.4, 13.5 (file system), and
 * of the TCG's for a TPM.
 * Members that are not used are left as space.
 *
 * SPDX-License-Identifier: MIT
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef u64 Status;
typedef void *Handle;
typedef void *Event;

#ifdef __x86_64__
#define EFIAPI __attribute__((ms_abi))
#else
#define EFIAPI
#endif

#define EFI_ERROR(n) (1UL << 63 | (n))                          /* appendix D */
#define EFI_SUCCESS 0
#define EFI_OUT_OF_RESOURCES EFI_ERROR(9)
#define EFI_NOT_FOUND EFI_ERROR(14)

#define EFI_VARIABLE_NV_BS_RT 7
#define EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS 0x20
#define EVT_TIMER 0x80000000u
#define TIMER_PERIODIC 1
#define LOAD_OPTION_ACTIVE 1
#define FILE_MODE_READ 1

enum ResetType { RESET_COLD, RESET_WARM, RESET_SHUTDOWN };

typedef struct { u32 a; u16 b, c; u8 d[8]; } Guid;

#define GLOBAL_VARIABLE {0x8BE4DF61, 0x93CA, 0x11D2, {0xAA, 0x0D, 0, 0xE0, 0x98, 3, 0x2B, 0x8C}}
#define IMAGE_SECURITY_DATABASE \
    {0xD719B2CB, 0x3D3A, 0x4596, {0xA3, 0xBC, 0xDA, 0xD0, 0x0E, 0x67, 0x65, 0x6F}}
#define ACPI_20_TABLE {0x8868E871, 0xE4F1, 0x11D3, {0xBC, 0x22, 0, 0x80, 0xC7, 0x3C, 0x88, 0x81}}
#define SMBIOS_TABLE {0xEB9D2D31, 0x2D88, 0x11D3, {0x9A, 0x16, 0, 0x90, 0x27, 0x3F, 0xC1, 0x4D}}
#define SMBIOS3_TABLE {0xF2FD1544, 0x9794, 0x4A2C, {0x99, 0x2E, 0xE5, 0xBB, 0xCF, 0x20, 0xE3, 0x94}}
#define DEVICE_TREE_TABLE \
    {0xB1B621D5, 0xF19C, 0x41A5, {0x83, 0x0B, 0xD9, 0x15, 0x2C, 0x69, 0xAA, 0xE0}}
#define LOADED_IMAGE_PROTOCOL \
    {0x5B1B31A1, 0x9562, 0x11D2, {0x8E, 0x3F, 0, 0xA0, 0xC9, 0x69, 0x72, 0x3B}}
#define DEVICE_PATH_PROTOCOL \
    {0x09576E91, 0x6D3F, 0x11D2, {0x8E, 0x39, 0, 0xA0, 0xC9, 0x69, 0x72, 0x3B}}
#define SERIAL_IO_PROTOCOL \
    {0xBB25CF6F, 0xF1D4, 0x11D2, {0x9A, 0x0C, 0, 0x90, 0x27, 0x3F, 0xC1, 0xFD}}
#define MP_SERVICES_PROTOCOL \
    {0x3FDDA605, 0xA76E, 0x4F46, {0xAD, 0x29, 0x12, 0xF4, 0x53, 0x1B, 0x3D, 0x08}}
#define TCG2_PROTOCOL {0x607F766C, 0x7455, 0x42BE, {0x93, 0x0B, 0xE4, 0xD7, 0x6D, 0xB2, 0x72, 0x0F}}
#define SIMPLE_FILE_SYSTEM_PROTOCOL \
    {0x964E5B22, 0x6459, 0x11D2, {0x8E, 0x39, 0, 0xA0, 0xC9, 0x69, 0x72, 0x3B}}

typedef struct { u8 type, subtype, length[2]; } DevicePath;
#define DEVICE_PATH_END 0x7F
#define DEVICE_PATH_MEDIA 4
#define DEVICE_PATH_FILE 4              /* of a medium: its name follows, in UTF-16 with its NUL */

typedef struct TextInput TextInput;
typedef struct { u16 scan_code, unicode; } Key;
struct TextInput {
    void *reset;
    Status(EFIAPI *read_key_stroke)(TextInput *, Key *);
    Event wait_for_key;
};

typedef struct TextOutput TextOutput;
struct TextOutput {
    void *reset;
    Status(EFIAPI *output_string)(TextOutput *, const u16 *);
};

typedef struct SerialIo SerialIo;
struct SerialIo {
    u64 revision;
    void *unused[3];
    Status(EFIAPI *get_control)(SerialIo *, u32 *control);
    Status(EFIAPI *write)(SerialIo *, u64 *size, const void *);
    Status(EFIAPI *read)(SerialIo *, u64 *size, void *);
};

typedef struct File File;
struct File {
    u64 revision;
    Status(EFIAPI *open)(File *, File **, const u16 *name, u64 mode, u64 attributes);
    Status(EFIAPI *close)(File *);
    void *delete;
    Status(EFIAPI *read)(File *, u64 *size, void *);
};

typedef struct FileSystem FileSystem;
struct FileSystem {
    u64 revision;
    Status(EFIAPI *open_volume)(FileSystem *, File **);
};

typedef struct {
    u32 revision;
    Handle parent;
    void *system_table;
    Handle device;
    DevicePath *file_path;
} LoadedImage;

typedef struct { u64 signature; u32 revision, header_size, crc32, reserved; } TableHeader;

typedef struct {
    TableHeader header;
    void *unused[6];
    Status(EFIAPI *get_variable)(const u16 *name, const Guid *, u32 *attributes, u64 *size, void *);
    void *get_next_variable_name;
    Status(EFIAPI *set_variable)(const u16 *name, const Guid *, u32 attributes, u64 size,
                                 const void *);
    void *get_next_high_monotonic_count;
    void(EFIAPI *reset_system)(enum ResetType, Status, u64 size, void *);
} RuntimeServices;

typedef struct {
    TableHeader header;
    void *unused1[4];
    Status(EFIAPI *get_memory_map)(u64 *size, void *map, u64 *key, u64 *descriptor, u32 *version);
    void *unused4[2];
    Status(EFIAPI *create_event)(u32 type, u64 tpl, void *notify, void *context, Event *);
    Status(EFIAPI *set_timer)(Event, u32 type, u64 hundreds_of_ns);
    Status(EFIAPI *wait_for_event)(u64 count, Event *, u64 *index);
    void *unused2[6];
    Status(EFIAPI *handle_protocol)(Handle, const Guid *, void *interface);
    void *unused3[12];
    Status(EFIAPI *set_watchdog_timer)(u64 seconds, u64 code, u64 size, const u16 *);
    void *unused5[7];
    Status(EFIAPI *locate_protocol)(const Guid *, void *registration, void *interface);
} BootServices;

typedef struct { u32 type, unused; u64 start, virtual_start, pages, attributes; } MemoryDescriptor;
enum MemoryType { LOADER_CODE = 1, CONVENTIONAL = 7, ACPI_RECLAIM = 9, ACPI_NVS = 10 };

typedef struct MpServices MpServices;                           /* PI 1.8, volume 2, 13.4 */
struct MpServices {
    Status(EFIAPI *get_number_of_processors)(MpServices *, u64 *all, u64 *enabled);
};

typedef struct Tcg2 Tcg2;               /* TCG EFI Protocol Specification, family 2.0, 6 */
struct Tcg2 {
    void *get_capability;
    Status(EFIAPI *get_event_log)(Tcg2 *, u32 format, u64 *first, u64 *last, u8 *truncated);
    void *hash_log_extend_event;
    Status(EFIAPI *submit_command)(Tcg2 *, u32 size, const u8 *, u32 room, u8 *);
};

typedef struct { Guid guid; void *table; } ConfigurationTable;

typedef struct {
    TableHeader header;
    u16 *firmware_vendor;
    u32 firmware_revision;
    Handle console_in_handle;
    TextInput *console_in;
    Handle console_out_handle;
    TextOutput *console_out;
    Handle standard_error_handle;
    TextOutput *standard_error;
    RuntimeServices *runtime;
    BootServices *boot;
    u64 tables;
    ConfigurationTable *table;
} SystemTable;
