"""cgroup directories by descriptor: opened component by component, never through a link.

A group is compared by inode on the very descriptor that is read and written afterwards, so a group
that is removed and made again (or swapped for a link) in between is never touched by mistake.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from gpuwarden.errors import Gone, Refused, Unavailable, Unsupported
from gpuwarden.model.ids import CgroupId

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_READ = 4 * 1024 * 1024
_MAX_DEPTH = 64
_MAX_GROUPS = 10_000
UNIFIED = ""
"""Name of the v2 tree where a hierarchy is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the hierarchies of a host are mounted.

    ``hierarchies`` maps a v1 controller (``freezer``; ``systemd`` for the named one) or ``""`` (the v2
    tree) to the directory it is mounted at. A pure v2 host has ``""`` alone.
    """

    hierarchies: Mapping[str, str]

    @property
    def is_unified(self) -> bool:
        return set(self.hierarchies) == {UNIFIED}


def find_layout(root: str) -> Layout:
    """The hierarchies below ``root`` (``/sys/fs/cgroup``); ``Unsupported`` where there is none."""
    if os.path.exists(os.path.join(root, "cgroup.controllers")):
        return Layout(hierarchies={UNIFIED: root})
    found: dict[str, str] = {}
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise Unsupported(f"no cgroups at {root}: {error.strerror}") from error
    for name in names:
        directory = os.path.join(root, name)
        if os.path.exists(os.path.join(directory, "cgroup.controllers")):
            found[UNIFIED] = directory
        elif os.path.exists(os.path.join(directory, "cgroup.procs")):
            for controller in name.split(","):
                found[controller] = directory
    if not found:
        raise Unsupported(f"no cgroup hierarchy is mounted below {root}")
    return Layout(hierarchies=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One open cgroup directory. ``fd`` belongs to whoever opened it."""

    fd: int
    path: str
    hierarchy: str

    @property
    def inode(self) -> int:
        return os.fstat(self.fd).st_ino

    def has(self, name: str) -> bool:
        """Whether the kernel offers this file here (a controller may be off)."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def read(self, name: str) -> str:
        """The file's text; ``Unsupported`` when it is not offered, ``Refused`` when the group is gone."""
        with self._translated(name):
            fd = os.open(name, os.O_RDONLY | _FILE, dir_fd=self.fd)
            try:
                return read_all(fd, _MAX_READ).decode("ascii", "replace").strip()
            finally:
                os.close(fd)

    def write(self, name: str, value: str) -> None:
        """Write ``value``; same errors as ``read``."""
        with self._translated(name):
            fd = os.open(name, os.O_WRONLY | os.O_TRUNC | _FILE, dir_fd=self.fd)
            try:
                os.write(fd, value.encode("ascii"))
            finally:
                os.close(fd)

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f"{name} of cgroup {self.path}"
            if error.errno == errno.ENODEV or not self.has("cgroup.procs"):
                raise Gone(f"cgroup {self.path} is gone") from error
            if error.errno == errno.ENOENT:
                raise Unsupported(f"this kernel does not offer {where}") from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise Unsupported(f"no permission for {where}") from error
            raise Unavailable(f"{where}: {error.strerror}") from error


@contextmanager
def opened(layout: Layout, hierarchy: str, path: str) -> Iterator[Group]:
    """The group at ``path`` of ``hierarchy``; ``Refused`` where there is no such directory."""
    fd = _open(layout, hierarchy, path)
    try:
        yield Group(fd=fd, path=path, hierarchy=hierarchy)
    finally:
        os.close(fd)


@contextmanager
def same(layout: Layout, cgroup: CgroupId) -> Iterator[Group]:
    """The group that ``cgroup`` names; ``Refused`` when another one stands in its place."""
    with opened(layout, cgroup.hierarchy, cgroup.path) as group:
        if group.inode != cgroup.inode:
            raise Refused(f"cgroup {cgroup.path} is another one now (its inode changed)")
        yield group


def is_actable(path: str | None) -> bool:
    """Whether ``path`` may name a group to act on: absolute, not the root, nothing relative in it."""
    if path is None or not path.startswith("/") or path == "/" or "\0" in path:
        return False
    return all(part not in ("", ".", "..") for part in path.split("/")[1:])


def walk(group: Group) -> Iterator[Group]:
    """The group and everything below it; bounded, links and other mounts are not entered."""
    yield group
    yield from _below(group, [_MAX_GROUPS], 0)


def members(group: Group) -> set[int]:
    """Pids of the group and below, monitors included."""
    return {pid for one in walk(group) for pid in direct_members(one, is_top=one is group)}


def has_members(group: Group) -> bool:
    """Whether anybody is in the group or below, monitors included; the first one tells."""
    return any(
        pid != "0" and pid.isascii() and pid.isdigit()
        for one in walk(group)
        for pid in _listed(one, is_top=one is group)
    )


def direct_members(group: Group, *, is_top: bool) -> set[int]:
    """Pids in this very group; processes of another pid namespace (0) are left out."""
    listed = _listed(group, is_top=is_top)
    return {int(pid) for pid in listed if pid.isascii() and pid.isdigit()} - {0}


def _listed(group: Group, *, is_top: bool) -> list[str]:
    """What the group lists. Errors count for the top group only: one below may go away, or be threaded (its
    pids then stand in its domain).
    """
    try:
        return group.read("cgroup.procs").split()
    except (Refused, Unavailable):
        if is_top:
            raise
        return []


def read_all(fd: int, limit: int) -> bytes:
    """Everything the descriptor holds, at most ``limit`` bytes."""
    parts: list[bytes] = []
    size = 0
    while size < limit:
        part = os.read(fd, min(65536, limit - size))
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _open(layout: Layout, hierarchy: str, path: str) -> int:
    if not is_actable(path):
        raise Refused(f"cgroup path {path!r} is no group to act on")
    directory = layout.hierarchies.get(hierarchy)
    if directory is None:
        raise Unsupported(f"cgroup controller {hierarchy or 'v2'} is not mounted")
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"cgroup hierarchy {directory}: {error.strerror}") from error
    device = os.fstat(fd).st_dev
    for part in path.split("/")[1:]:
        try:
            below = os.open(part, _DIRECTORY, dir_fd=fd)
        except FileNotFoundError as error:
            raise Gone(f"cgroup {path} is gone") from error
        except OSError as error:
            raise Refused(f"cgroup {path}: {part}: {error.strerror}") from error
        except ValueError as error:
            raise Refused(f"cgroup {path!r} is no path") from error
        finally:
            os.close(fd)
        fd = below
        if os.fstat(fd).st_dev != device:
            os.close(fd)
            raise Refused(f"cgroup {path} leaves its hierarchy at {part}")
    return fd


def _below(group: Group, budget: list[int], depth: int) -> Iterator[Group]:
    if depth >= _MAX_DEPTH:
        return
    try:
        with os.scandir(group.fd) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for name in names:
        budget[0] -= 1
        if budget[0] < 0:
            return
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=group.fd)
        except OSError:
            continue
        try:
            child = Group(fd=fd, path=f"{group.path}/{name}", hierarchy=group.hierarchy)
            yield child
            yield from _below(child, budget, depth + 1)
        finally:
            os.close(fd)
