"""Root file systems of Debian packages, and what is in them."""
