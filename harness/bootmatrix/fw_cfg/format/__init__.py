"""What stands in fw_cfg items, byte by byte: keys, the file directory, public formats, options.

Pure, and robust against any bytes: a parser here returns, or raises FormatError.

    wire       FormatError, and a reader of fields that cannot run past its end
    keys       the selector keys that are compiled into firmware
    directory  the file directory
    acpi       RSDP, tables, the loader script
    smbios     anchor and structures
    decode     an item by its name to plain JSON data
    option     QEMU's -fw_cfg option, built and checked
"""
