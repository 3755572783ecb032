"""Git repositories with what looks like a firmware's source, and is built in no time."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

MAKEFILE = """\
all:
\t/bin/busybox sh ./build.sh "$(OUT)" "$(EXTRAVERSION)" "$(KCONFIG_CONFIG)"
olddefconfig:
.PHONY: all olddefconfig
"""
# What SeaBIOS' build leaves: an image, and what names its functions.
BUILD = """\
set -e
mkdir -p $1
cp image ${1}bios.bin
echo '00000000 T entry' >${1}rom.o
"""


def image(text: str) -> bytes:
    """What passes for a firmware, and says what is to come of it."""
    return text.encode().ljust(4096 - 16, b"\0") + b"\xea".ljust(16, b"\0")


class GitRepository:
    """A git repository in a directory, which is made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        """What git prints here."""
        return subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words], cwd=self.path,
            check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, subject: str, files: Mapping[str, bytes | str]) -> str:
        """A commit in which these files have this content; its hash."""
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        if files:
            self.git("add", "--", *files)
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")


class StandIn(GitRepository):
    """One that is taken for SeaBIOS'; its build copies the file ``image``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.release("first", "good")

    def release(self, subject: str, text: str, build: str = BUILD) -> str:
        """A commit whose image holds a text, built by a script."""
        return self.commit(subject, {
            "Makefile": MAKEFILE, "src/romlayout.S": "", "scripts/buildversion.py": "",
            "build.sh": build, "image": image(text)})


# What stands for EDK II's build: it tells how it was called, and makes two files.
_EDK2_BUILD = """\
#!/bin/sh
printf 'said: %s\\n' "$*"
echo "said: $WORKSPACE $PACKAGES_PATH $EDK_TOOLS_PATH $CONF_PATH"
cat "$WORKSPACE"/Conf/*.txt
[ -e "$EDK_TOOLS_PATH/Source/C/made" ] || exit 1
mkdir -p Build/OvmfX64/RELEASE_GCC5/FV
for name in CODE VARS; do
  cp "$PACKAGES_PATH/$name.fd" Build/OvmfX64/RELEASE_GCC5/FV/OVMF_$name.fd
done
"""


class Edk2StandIn(GitRepository):
    """One that is taken for EDK II's; its build copies the files CODE.fd and VARS.fd."""

    def __init__(self, path: Path, code: bytes = b"code", variables: bytes = b"variables") -> None:
        super().__init__(path)
        build = path / "BaseTools/BinWrappers/PosixLike/build"
        build.parent.mkdir(parents=True)
        build.touch(mode=0o755)
        self.commit("first", {
            "OvmfPkg/OvmfPkgX64.dsc": "", "MdePkg/MdePkg.dec": "",
            "OvmfPkg/SmbiosPlatformDxe/SmbiosPlatformDxe.inf":
                "gEfiMdeModulePkgTokenSpaceGuid.PcdFirmwareVersionString\n",
            "BaseTools/Conf/tools_def.template": "*_GCC5_X64_CC_PATH = gcc\n",
            "BaseTools/Conf/build_rule.template": "said: rule\n",
            "BaseTools/Conf/target.template": "said: target\n",
            "BaseTools/Source/C/GNUmakefile": "all:\n\ttouch made\n",
            "BaseTools/BinWrappers/PosixLike/build": _EDK2_BUILD,
            "CODE.fd": code, "VARS.fd": variables,
        })
