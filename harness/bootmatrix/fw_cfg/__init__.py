"""fw_cfg: a client, its items byte by byte, and how two offers differ."""
