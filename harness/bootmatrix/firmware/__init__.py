"""What a firmware image is, told by its bytes and its description. Pure."""
