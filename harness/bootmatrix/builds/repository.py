"""A git repository of the user's, and only looked at: which commits it has, and what is in one.

What a commit holds is read object by object. Nothing is checked out, so that no filter, attribute
or hook of the repository's is run, and nothing is fetched. git itself refuses one that belongs to
another user.
"""

from __future__ import annotations

import configparser
import contextlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bootmatrix.errors import UserError

_SECONDS = 60.0
# QEMU has some 10,000 files of 200 MB, with all that it could have beside it 40,000.
_MOST_FILES, _MOST_BYTES, _LARGEST = 200_000, 4 << 30, 256 << 20
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_LINK, _SUBMODULE, _PROGRAM = "120000", "160000", "100755"
_WRAPS = "subprojects"


@dataclass(frozen=True)
class Blob:
    """A file or link of a commit: how git calls its content, and the repository that has it."""

    mode: str
    name: str
    size: int
    repository: Repository


@dataclass(frozen=True)
class CommitTree:
    """What is in a commit, by its path; ``absent`` are parts of it that are not in the clone."""

    files: Mapping[str, Blob]
    absent: tuple[str, ...] = ()

    def under(self, directory: str, *suffixes: str) -> dict[str, Blob]:
        """The regular files right in a directory whose names end so, by their names."""
        return {PurePosixPath(path).name: blob for path, blob in self.files.items()
                if path.rpartition("/")[0] == directory and path.endswith(suffixes)
                and blob.mode != _LINK}


class Repository:
    """A git repository by its directory: a clone, a worktree, or bare."""

    def __init__(self, path: Path, *, around: bool = False) -> None:
        """With ``around`` it may also be the repository that the directory lies in."""
        self.path = path
        self._around = around

    def git(self, *words: str, give: str | None = None) -> str | None:
        """What git prints, None where it fails. Raises UserError where there is none."""
        done = self._run(*words, give=give)
        return None if done.returncode else done.stdout

    def _run(self, *words: str, give: str | None = None) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(self._argv(*words), input=give, capture_output=True, text=True,
                                  errors="replace", env=self.environment,
                                  timeout=_SECONDS, check=False)
        except FileNotFoundError:
            raise _no_git() from None
        except subprocess.TimeoutExpired:
            raise UserError(f"{self.path}: git {words[0]} has no end") from None

    def _argv(self, *words: str) -> list[str]:
        return ["git", "-C", str(self.path), "--no-pager", "-c", "core.fsmonitor=false", *words]

    @property
    def environment(self) -> dict[str, str]:
        """What git has: no network, and nothing of what a hook of another repository has."""
        inherited = {name: value for name, value in os.environ.items()
                     if not name.startswith("GIT_")}
        if not self._around:
            inherited["GIT_CEILING_DIRECTORIES"] = str(self.path.resolve().parent)
        return {**inherited, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_ALLOW_PROTOCOL": "none",
                "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1",
                "GIT_TERMINAL_PROMPT": "0"}

    # ---- commits ----------------------------------------------------------------------------

    def commit(self, name: str) -> str | None:
        """The commit that a name stands for now, None for none."""
        found = self.git("rev-parse", "--verify", "--quiet", "--end-of-options",
                         f"{name}^{{commit}}")
        return found.strip() if found else None

    def commits(self, names: Sequence[str]) -> dict[str, str]:
        """The commits that names stand for; a name that is none of a commit is left out."""
        said = self.git("cat-file", "--batch-check=%(objectname)",
                        give="".join(f"{name}^{{commit}}\n" for name in names)) or ""
        return {name: line for name, line in zip(names, said.splitlines(), strict=False)
                if _COMMIT.fullmatch(line)}

    def need(self, name: str) -> str:
        """As ``commit``. Raises UserError where there is none, or no repository."""
        if (found := self.commit(name)) is not None:
            return found
        if not self.path.is_dir():
            what = "is no directory" if self.path.exists() else "is not there"
            raise UserError(f"{self.path} {what}",
                            hint="a git repository: a clone, with its .git")
        said = self._run("rev-parse", "--git-dir")
        if said.returncode:
            why = (said.stderr.strip().splitlines() or ["it fails"])[0].removeprefix("fatal: ")
            raise UserError(f"{self.path} is no git repository of yours: git says {why!r}")
        raise UserError(f"{self.path} has no revision {name!r}",
                        hint="git fetch, if others have it")

    def between(self, old: str, new: str) -> dict[str, str]:
        """The first-parent commits from ``old`` to ``new``, each with its short hash and subject.
        """
        first, last = self.commit(old), self.commit(new)
        for name, found in ((old, first), (new, last)):
            if found is None:
                if not self._around:
                    self.need(name)
                raise UserError(f"{name} is no revision of a git repository here",
                                hint="list the revisions in a file: --candidates FILE")
        assert first is not None
        listed = self.git("rev-list", "--reverse", "--first-parent", "--ancestry-path",
                          f"{first}..{last}") or ""
        if not listed:
            other = self.git("merge-base", "--is-ancestor", str(last), first) is not None
            raise UserError(f"{new} does not come after {old} in git's history",
                            hint="--reverse: the good one is the newer" if other and first != last
                            else "one must be an ancestor of the other")
        names = [first, *listed.split()]
        said = self.git("log", "--no-walk=unsorted", "--stdin", "--no-show-signature",
                        "--no-color", "--format=%h %s", give="\n".join(names)) or ""
        texts = said.splitlines()
        return dict(zip(names, texts if len(texts) == len(names) else names, strict=True))

    def tracks(self, name: str) -> bool:
        """Whether a file of its work tree is one of the repository's."""
        return self.git("ls-files", "--error-unmatch", "--", name) is not None

    def described(self, commit: str) -> str:
        """A commit by the tag before it: rel-1.16.3-0-ga6ed6b7; "" where git cannot tell."""
        return (self.git("describe", "--tags", "--long", "--always", "--abbrev=12",
                         commit) or "").strip()

    def show(self, commit: str) -> str:
        """Who made a commit, when, what of, and which files it changed by how many lines."""
        return self.git("show", "--first-parent", "--no-show-signature", "--no-color",
                        "--no-ext-diff", "--no-textconv", "--stat=100", "--format=medium",
                        commit) or ""

    def holds(self, commit: str, path: str) -> bool:
        """Whether a commit has something at a path."""
        return self.git("cat-file", "-e", f"{commit}:{path}") is not None

    # ---- what is in one ---------------------------------------------------------------------

    def tree(self, commit: str) -> CommitTree:
        """All that a commit holds, with what of its submodules and wraps is in this clone.

        Raises UserError for a commit that is larger than any that is built here.
        """
        files, absent = self._entries(commit), []
        for path, module in [*files.items()]:
            if module.mode == _SUBMODULE:
                del files[path]
                if not _put(files, path, self.path / path, module.name):
                    absent.append(f"git submodule update --init {path}")
        for path in [path for path in files if path.startswith(f"{_WRAPS}/")
                     and path.endswith(".wrap") and path.count("/") == 1]:
            wrap = _wrap(files[path])
            name = wrap.get("directory") or PurePosixPath(path).stem
            place = f"{_WRAPS}/{name}"
            revision = wrap.get("revision", "")
            if any(other.startswith(f"{place}/") for other in files) or not _COMMIT.fullmatch(
                    revision) or "/" in name or name.startswith("."):
                continue
            if _put(files, place, self.path / place, revision):
                # As meson does where it fetches one.
                over = f"{_WRAPS}/packagefiles/{wrap.get('patch_directory')}/"
                files |= {f"{place}/{patch.removeprefix(over)}": blob
                          for patch, blob in [*files.items()] if patch.startswith(over)}
            else:
                absent.append(f"meson subprojects download {name}")
        sizes = [blob.size for blob in files.values()]
        if len(sizes) > _MOST_FILES or sum(sizes) > _MOST_BYTES or max(sizes, default=0) > _LARGEST:
            raise UserError(f"{self.path}: {commit[:12]} is too large to be built here: at most "
                            f"{_MOST_FILES} files, {_MOST_BYTES >> 30} GiB, in each "
                            f"{_LARGEST >> 20} MiB")
        return CommitTree(files, tuple(absent))

    def _entries(self, commit: str) -> dict[str, Blob]:
        said = self.git("ls-tree", "-r", "-l", "-z", "--full-tree", commit)
        if said is None:
            raise UserError(f"{self.path}: git cannot list {commit[:12]}")
        found = {}
        for line in filter(None, said.split("\0")):
            fields, _, path = line.partition("\t")
            mode, _, name, size = fields.split()
            found[path] = Blob(mode, name, int(size) if size.isdecimal() else 0, self)
        return found

    def has(self, commit: str) -> bool:
        """Whether this is a repository that holds a commit."""
        return (self.path / ".git").exists() and self.commit(commit) == commit


def read(blobs: Sequence[Blob]) -> Iterator[bytes]:
    """The contents of files, in their order. Raises UserError where one is not there."""
    with contextlib.ExitStack() as stack:
        readers: dict[Path, subprocess.Popen[bytes]] = {}
        for blob in blobs:
            path = blob.repository.path
            if path not in readers:
                readers[path] = stack.enter_context(subprocess.Popen(
                    blob.repository._argv("cat-file", "--batch"), stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                    env=blob.repository.environment))
                stack.callback(readers[path].kill)
            asked, said = readers[path].stdin, readers[path].stdout
            assert asked is not None
            assert said is not None
            asked.write(f"{blob.name}\n".encode())
            asked.flush()
            _, _, size = said.readline().rpartition(b" ")
            content = said.read(int(size) + 1)[:-1] if size.strip().isdigit() else b""
            if len(content) != blob.size:
                raise UserError(f"{path}: git does not have {blob.name}",
                                hint="a clone with all objects, not a partial one")
            yield content


def pack(tree: CommitTree, file: IO[bytes], further: Mapping[str, bytes]) -> None:
    """Write a tree as a tar archive, with ``further`` files in it. Raises UserError."""
    paths = list(tree.files)
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in zip(paths, read([tree.files[path] for path in paths]), strict=True):
            if path not in further:
                _add(archive, path, content, tree.files[path].mode)
        for path, content in further.items():
            _add(archive, path, content, "100644")


def _add(archive: tarfile.TarFile, path: str, content: bytes, mode: str) -> None:
    entry = tarfile.TarInfo(path)
    entry.mode = 0o755 if mode == _PROGRAM else 0o644
    if mode == _LINK:
        entry.type, entry.linkname = tarfile.SYMTYPE, os.fsdecode(content)
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def _put(files: dict[str, Blob], place: str, clone: Path, commit: str) -> bool:
    """Put what another clone has of a commit below a place; whether it has it."""
    other = Repository(clone)
    if not other.has(commit):
        return False
    files |= {f"{place}/{path}": blob for path, blob in other._entries(commit).items()
              if blob.mode != _SUBMODULE}
    return True


def _wrap(blob: Blob) -> Mapping[str, str]:
    """What one of meson's wrap files says of a git repository; nothing, if it is of none."""
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, KeyError):
        parser.read_string(next(read([blob])).decode(errors="replace"))
        return dict(parser["wrap-git"])
    return {}


def require_git() -> None:
    """Raise UserError where there is no git here."""
    if shutil.which("git") is None:
        raise _no_git()


def _no_git() -> UserError:
    return UserError("no git here, which reads repositories", hint="apt install git")
