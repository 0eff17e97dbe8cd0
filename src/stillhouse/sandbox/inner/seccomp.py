"""The allow-list of system calls for a program, as classic BPF (seccomp(2), Linux x86-64).

Whatever is not named gets EPERM, and clone3 ENOSYS, so that glibc falls back to clone, whose flags can be looked at.
"""

import struct

_ARCHITECTURE_X86_64 = 0xC000003E
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 24, 32
_CLONE, _CLONE3, _TGKILL, _CLONE_THREAD = 56, 435, 234, 0x10000
_X32_BIT = 0x40000000
# Limits may be read. Setting one does nothing and says that it did: programs ask for a larger stack as a matter of course.
_SETRLIMIT, _PRLIMIT = 160, 302
# Of fcntl, nothing that makes the kernel signal somebody: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC.
# Of ioctl, what Python's own open() and isatty() ask: TCGETS, TIOCGWINSZ, FIONREAD, FIONCLEX, FIOCLEX.
_BY_COMMAND = {72: (0, 1, 2, 3, 1030), 16: (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)}
# What stays inside the namespaces of a program, and is refused without them. Of fcntl besides: locks and F_SETFL (F_GETLK,
# F_SETLK, F_SETLKW, F_OFD_*); of ioctl: FIONBIO.
_WITHIN_COMMANDS = {72: (4, 5, 6, 7, 36, 37, 38), 16: (0x5421,)}
_WITHIN = {
    "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "utime": 132, "utimes": 235, "futimesat": 261,
    "utimensat": 280, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "flock": 73, "truncate": 76,
    "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "getxattr": 191, "lgetxattr": 192, "fgetxattr": 193,
    "listxattr": 194, "llistxattr": 195, "flistxattr": 196, "fallocate": 285, "sendfile": 40, "copy_file_range": 326,
    "statfs": 137, "fstatfs": 138, "msync": 26,
    "socketpair": 53, "connect": 42, "accept": 43, "accept4": 288, "bind": 49, "listen": 50, "getsockname": 51,
    "getpeername": 52, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "setsockopt": 54,
    "getsockopt": 55,
}  # fmt: skip
# AF_UNIX, AF_INET, AF_INET6: the loopback of a network of its own. No raw packets, no netlink.
_SOCKET, _SOCKET_FAMILIES = 41, (1, 2, 10)

_FILES = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "dup": 32, "dup2": 33,
    "fsync": 74, "fdatasync": 75, "ftruncate": 77, "getdents": 78, "getcwd": 79,
    "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "unlink": 87, "readlink": 89,
    "umask": 95, "getdents64": 217, "openat": 257, "mkdirat": 258, "newfstatat": 262,
    "unlinkat": 263, "renameat": 264, "readlinkat": 267, "faccessat": 269, "dup3": 292,
    "pipe2": 293, "renameat2": 316, "statx": 332, "faccessat2": 439,
}  # fmt: skip
_MEMORY = {"mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "madvise": 28}
_WAITING = {
    "poll": 7, "select": 23, "sched_yield": 24, "nanosleep": 35, "futex": 202, "epoll_create": 213, "clock_nanosleep": 230,
    "epoll_wait": 232, "epoll_ctl": 233, "pselect6": 270, "ppoll": 271, "eventfd2": 290, "epoll_create1": 291,
    "epoll_pwait": 281,
}  # fmt: skip
_SELF = {
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "getitimer": 36, "alarm": 37, "setitimer": 38,
    "getpid": 39, "exit": 60, "uname": 63, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99,
    "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "rt_sigpending": 127,
    "sigaltstack": 131, "arch_prctl": 158, "gettid": 186, "time": 201, "sched_getaffinity": 204, "restart_syscall": 219,
    "clock_gettime": 228, "clock_getres": 229, "exit_group": 231, "set_robust_list": 273, "getrandom": 318,
    "membarrier": 324, "rseq": 334,
}  # fmt: skip
ALLOWED = {**_FILES, **_MEMORY, **_WAITING, **_SELF}


def _statement(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _jumps(*, isolated: bool) -> bytes:
    """Everything but the end, which depends on the process."""
    allow, kill = _statement(_RETURN, _ALLOW), _statement(_RETURN, _KILL)
    refuse = _statement(_RETURN, _ERRNO | _EPERM)
    parts = [
        _statement(_LOAD, _ARCHITECTURE),
        _jump(_JUMP_EQUAL, _ARCHITECTURE_X86_64, 1, 0),
        kill,
        _statement(_LOAD, _NUMBER),
        _jump(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
        kill,
    ]
    for number in sorted({*ALLOWED.values(), *(_WITHIN.values() if isolated else ())}):
        parts += [_jump(_JUMP_EQUAL, number, 0, 1), allow]
    by_argument = {
        number: (_SECOND_ARGUMENT, (*commands, *(_WITHIN_COMMANDS[number] if isolated else ())))
        for number, commands in _BY_COMMAND.items()
    }
    by_argument |= {_SOCKET: (_FIRST_ARGUMENT, _SOCKET_FAMILIES)} if isolated else {}
    for number, (argument, wanted) in by_argument.items():
        checks = [part for value in wanted for part in (_jump(_JUMP_EQUAL, value, 0, 1), allow)]
        parts += [_jump(_JUMP_EQUAL, number, 0, len(checks) + 2), _statement(_LOAD, argument), *checks, refuse]
    nothing = _statement(_RETURN, _ERRNO)
    parts += [_jump(_JUMP_EQUAL, _SETRLIMIT, 0, 1), nothing]
    parts += [_jump(_JUMP_EQUAL, _PRLIMIT, 0, 6)]
    for half, otherwise in ((_THIRD_ARGUMENT, 3), (_THIRD_ARGUMENT + 4, 1)):
        parts += [_statement(_LOAD, half), _jump(_JUMP_EQUAL, 0, 0, otherwise)]
    parts += [allow, nothing]
    parts += [_jump(_JUMP_EQUAL, _CLONE3, 0, 1), _statement(_RETURN, _ERRNO | _ENOSYS)]
    parts += [_jump(_JUMP_EQUAL, _CLONE, 0, 4), _statement(_LOAD, _FIRST_ARGUMENT)]
    parts += [_jump(_JUMP_SET, _CLONE_THREAD, 0, 1), allow, refuse]
    parts += [_jump(_JUMP_EQUAL, _TGKILL, 1, 0), refuse, _statement(_LOAD, _FIRST_ARGUMENT)]
    return b"".join(parts)


_ALIKE = {isolated: _jumps(isolated=isolated) for isolated in (False, True)}
_ALLOW_OR_REFUSE = _statement(_RETURN, _ALLOW) + _statement(_RETURN, _ERRNO | _EPERM)


def filter_for(own_process: int, *, isolated: bool) -> bytes:
    """The filter for a program whose process id, as it sees it, is ``own_process``: it may signal only itself.

    ``isolated``: it has file systems and a network of its own, so that more of the calls that it can make stay there.
    """
    return _ALIKE[isolated] + _jump(_JUMP_EQUAL, own_process, 0, 1) + _ALLOW_OR_REFUSE
