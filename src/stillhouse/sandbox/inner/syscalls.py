"""The system calls that Python 3.11 has no name for, on Linux x86-64."""

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38

_SYS_CAPSET, _SYS_PIVOT_ROOT, _SYS_MOUNT_SETATTR = 126, 155, 442
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID = 1, 2


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags``; a new process namespace holds for children."""
    _checked(_libc.unshare(flags), "unshare")


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _checked(_libc.prctl(option, value, 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2)."""
    _checked(_libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()), f"mount {target}")


def unmount(target: str) -> None:
    """umount2(2), detaching."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _checked(_libc.syscall(_SYS_PIVOT_ROOT, new.encode(), old.encode()), "pivot_root")


def read_only(target: str) -> None:
    """Make a mount and everything mounted below it read-only and without set-user-id (mount_setattr, Linux 5.12)."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
    _checked(
        _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes, len(attributes)),
        f"mount_setattr {target}",
    )


def bring_up_loopback() -> None:
    """Switch on the loopback of this process's own network namespace (netdevice(7): SIOCSIFFLAGS, IFF_UP)."""
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 1))


def landlock_version() -> int:
    """The Landlock version of this kernel; 0 where there is none."""
    return max(0, int(_libc.syscall(_SYS_LANDLOCK_CREATE, None, 0, 1)))


_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_READ = _READ_FILE | _READ_FOLDER
_ALL_V1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15


def landlock(readable: list[str], writable: list[str], listed: list[str]) -> None:
    """From now on this process and its children reach only these paths (landlock(7)): what is below ``readable`` to read,
    the files ``writable`` to write, the folders ``listed`` to be in.

    Nothing is handled beyond the kernel's version, so that an older one restricts what it can.
    """
    version = landlock_version()
    handled = _ALL_V1 | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    handled |= _IOCTL_DEVICE if version >= 5 else 0
    attributes = struct.pack("=Q", handled)
    ruleset = _checked(_libc.syscall(_SYS_LANDLOCK_CREATE, attributes, len(attributes), 0), "landlock")
    write = (_WRITE_FILE | _READ_FILE | _TRUNCATE) & handled
    for paths, wanted in ((readable, _READ | _EXECUTE), (writable, write), (listed, _READ_FOLDER)):
        for path in paths:
            if not os.path.exists(path):
                continue
            allowed = wanted if os.path.isdir(path) else wanted & (_WRITE_FILE | _READ_FILE | _EXECUTE | _TRUNCATE)
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", allowed, descriptor)
            _checked(_libc.syscall(_SYS_LANDLOCK_ADD, ruleset, 1, rule, 0), f"landlock {path}")
            os.close(descriptor)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _checked(_libc.syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


# Everything by which a file can be made, changed, moved or removed; TRUNCATE is what version 3 brought.
_CHANGES = _WRITE_FILE | (_ALL_V1 & ~0b1111) | _REFER | _TRUNCATE
_CHANGES_OF_FILES = _WRITE_FILE | _TRUNCATE
_MAKE_DEVICES = 1 << 6 | 1 << 11  # a disk under a new name is still that disk
GUARD_VERSION = 3


def landlock_changes(changeable: list[str]) -> None:
    """From now on this process and its children change nothing but these files and what is below these folders (landlock(7)).

    Reading and running stay as they are. Needs GUARD_VERSION.
    """
    attributes = struct.pack("=Q", _CHANGES)
    ruleset = _checked(_libc.syscall(_SYS_LANDLOCK_CREATE, attributes, len(attributes), 0), "landlock")
    for path in changeable:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # it went away: then nobody needs to change it
        allowed = _CHANGES & ~_MAKE_DEVICES if os.path.isdir(path) else _CHANGES_OF_FILES
        rule = struct.pack("=Qi", allowed, descriptor)
        _checked(_libc.syscall(_SYS_LANDLOCK_ADD, ruleset, 1, rule, 0), f"landlock {path}")
        os.close(descriptor)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _checked(_libc.syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def drop_capabilities() -> None:
    """Give up every capability, those inside a user namespace of one's own included (capset(2), version 3)."""
    header = struct.pack("=Ii", 0x20080522, 0)
    _checked(_libc.syscall(_SYS_CAPSET, header, bytes(24)), "capset")


def install_filter(program: bytes) -> None:
    """Install a seccomp filter (an array of ``struct sock_filter``) for good."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    buffer = ctypes.create_string_buffer(program, len(program))
    descriptor = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _checked(_libc.prctl(22, 2, descriptor, 0, 0), "seccomp")
