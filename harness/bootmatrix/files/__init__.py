"""Files that users name, and files that a sandbox can write: read and written within bounds."""
