"""The process that programs are forked from. Started as a script; talks frames over standard input and output.

Frame: four bytes of length (big-endian), then that many bytes. In: a byte that says that there is a job, a JSON frame of its
limits, and one of the job. Out: one JSON header, then the raw bytes that the program said.

A program inherits the memory of the process that it is forked from. So this process never reads a job, nor what became of one:
for each it forks a supervisor, which reads the limits and forks the program's own process, and that reads the job.
"""

import contextlib
import gc
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import runner
import seccomp
import syscalls

# Programs import these all the time; importing them here makes each such import free for every program.
PRELOADED = (
    "abc array bisect calendar cmath collections collections.abc copy dataclasses datetime decimal enum fractions functools "
    "hashlib heapq io itertools json math operator queue random re statistics string struct textwrap threading time "
    "traceback types typing unicodedata"
)
NOBODY = 65534
RESULTS = 3
TIME_ZONES = ("/usr/share/zoneinfo",)
_SLOWEST = 6  # a machine that gives a program less than a sixth of a core is too busy to judge it
NOT_ISOLATED = 97  # exit code of a child that was not isolated as it should be, and so ran nothing


def read_frame(descriptor: int) -> bytes:
    """One frame; empty at the end of the stream."""
    length = int.from_bytes(_read_exactly(descriptor, 4), "big")
    return _read_exactly(descriptor, length)


def _read_exactly(descriptor: int, count: int) -> bytes:
    pieces = []
    while count:
        piece = os.read(descriptor, min(count, 1 << 20))
        if not piece:
            return b""
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def write_frame(descriptor: int, data: bytes) -> None:
    """Write one frame whole."""
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(descriptor, data) :]


def answer(header: dict[str, Any], said: bytes = b"") -> None:
    """Tell the host what became of a job."""
    write_frame(1, json.dumps(header).encode())
    write_frame(1, said)


def standard_library() -> str:
    """The folder of this Python's own modules."""
    return os.path.dirname(os.path.realpath(os.__file__))


def library_folders() -> list[str]:
    """Where the loader finds shared libraries, for modules that are imported late."""
    named = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"]
    # /usr/lib as a whole holds much more than libraries; where it is divided by architecture, that part is enough.
    divided = os.path.isdir("/usr/lib/x86_64-linux-gnu")
    return [folder for folder in named if os.path.isdir(folder) and (folder.endswith("linux-gnu") or not divided)]


def installed_packages(folder: str) -> list[str]:
    """Folders of installed packages within a folder: they may hold Stillhouse itself, and the answers to its tasks."""
    found = []
    for inner in ("", *(name for name in sorted(os.listdir(folder)) if name.startswith("python"))):
        for name in ("site-packages", "dist-packages"):
            path = os.path.join(folder, inner, name)
            if os.path.isdir(path) and not os.path.islink(path):
                found.append(path)
    return found


def enter_namespaces(packages: list[str]) -> None:
    """Give this process a network of its own with a loopback and nothing else, a root of read-only system folders, and no sight
    of other processes.

    Returns in a child that is the first process of its process namespace: when it ends, for whatever reason, the kernel
    ends everything under it.
    """
    user, group = os.getuid(), os.getgid()
    apart = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    apart |= syscalls.CLONE_NEWPID
    if user == 0:
        syscalls.unshare(apart)
    else:
        syscalls.unshare(apart | syscalls.CLONE_NEWUSER)
        map_identity(user, group)
    # A PID namespace holds only children of who made it.
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    step_down = can_become_nobody()
    syscalls.bring_up_loopback()
    build_root(packages)
    if step_down:
        become_nobody()


def places_of(packages: list[str]) -> list[str]:
    """Where folders of packages lie in the new root: not where they lay, which may be below the /tmp of every program."""
    return [f"/packages/{number}" for number in range(len(packages))]


def map_identity(user: int, group: int) -> None:
    """Inside the new user namespace, be who one was outside, and nobody else."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def build_root(packages: list[str]) -> None:
    """A tmpfs with binds of the standard library and shared libraries, pivoted into; nothing else of the machine is left."""
    syscalls.mount("none", "/", "none", syscalls.MS_REC | syscalls.MS_PRIVATE)
    library = standard_library()
    root = next(
        folder for folder in ("/mnt", "/tmp", "/opt") if os.path.isdir(folder) and not library.startswith(folder)
    )
    syscalls.mount("tmpfs", root, "tmpfs", syscalls.MS_NOSUID, "size=1m,mode=755")
    for folder in sorted({library, *map(os.path.realpath, library_folders())}):
        place = root + folder
        if not os.path.isdir(folder) or os.path.exists(place):  # the latter: it lies within one that is there already
            continue
        os.makedirs(place)
        syscalls.mount(folder, place, "none", syscalls.MS_BIND | syscalls.MS_REC)
        for hidden in installed_packages(folder):
            syscalls.mount("tmpfs", root + hidden, "tmpfs", syscalls.MS_RDONLY, "size=4k")
    for link in ("/lib", "/lib64"):
        if os.path.islink(link):
            os.symlink(os.readlink(link), root + link)
    for file in ("/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/urandom"):
        if os.path.exists(file):
            os.makedirs(os.path.dirname(root + file), exist_ok=True)
            with open(root + file, "w"):
                pass
            syscalls.mount(file, root + file, "none", syscalls.MS_BIND)
    with open(root + "/etc/hosts", "w") as hosts:  # of the network of its own
        hosts.write("127.0.0.1 localhost\n::1 localhost\n")
    places = [(folder, folder) for folder in TIME_ZONES]
    places += zip(packages, places_of(packages), strict=True)
    for folder, place in places:
        if os.path.isdir(folder):
            os.makedirs(root + place, exist_ok=True)
            syscalls.mount(folder, root + place, "none", syscalls.MS_BIND | syscalls.MS_REC)
    for folder in ("/tmp", "/proc", "/old", "/dev/shm"):
        os.makedirs(root + folder, exist_ok=True)
    syscalls.read_only(root)
    # A child needs /proc to map its identity, which a read-only one forbids; its program finds an empty one over it.
    syscalls.mount("/proc", root + "/proc", "none", syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.pivot_root(root, root + "/old")
    os.chdir("/")
    syscalls.unmount("/old")


def become_nobody() -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # else /proc/self is root's, and no identity can be mapped


def can_become_nobody() -> bool:
    """Is this root, and is there a nobody to become?

    In a user namespace that maps one user only (a rootless container), root is an ordinary user outside; it stays that, and
    the program's capabilities are dropped in any case.
    """
    if os.getuid() != 0:
        return False
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(first <= NOBODY < first + count for first, _, count in ranges)


def enter_landlock(scratch: str, packages: list[str]) -> None:
    """Without namespaces: only the standard library and shared libraries within reach, and nothing to write to."""
    library = standard_library()
    step_down = can_become_nobody() and anyone_may_enter(library)
    readable = ["/etc/ld.so.cache", "/dev/urandom", "/dev/zero", *TIME_ZONES, *packages]
    for folder in sorted({library, *map(os.path.realpath, library_folders())}):
        hidden = installed_packages(folder)
        if not hidden:
            readable.append(folder)
            continue
        # A rule holds for all that lies below, so a folder with packages in it is opened piece by piece.
        readable += [
            path for name in os.listdir(folder) if not holds_packages(path := os.path.join(folder, name), hidden)
        ]
    syscalls.landlock(readable, ["/dev/null"], listed=[scratch])
    if step_down:
        become_nobody()


def holds_packages(path: str, hidden: list[str]) -> bool:
    """Is a path one of the hidden folders, or above one?"""
    return any(folder == path or folder.startswith(path + "/") for folder in hidden)


def anyone_may_enter(path: str) -> bool:
    """May every user pass through all folders above ``path``? Else only root finds this Python's own modules."""
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


def supervise(isolated: bool, scratch: str, others: int) -> None:
    """In a fork of its own: run one program to its end or its limits, and answer. ``others`` are threads that count for the
    limit of a program's, and are not its own.
    """
    limits = json.loads(read_frame(0))
    limits["tasks"] += others
    folder = "/tmp" if isolated else scratch
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        become_program(limits, writing, folder, isolated)
    os.close(writing)
    said, ending = listen(reading, child, limits)
    os.close(reading)
    # Whatever it still does after its last word; its own children end with its namespace.
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - started
    header = {
        "ending": "not isolated" if not said and status == NOT_ISOLATED << 8 else ending,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": wall,
    }
    answer(header, said)


def listen(reading: int, child: int, limits: dict[str, Any]) -> tuple[bytes, str]:
    """Everything the program says until it closes the pipe, says too much, or has waited for too long.

    On a loaded machine a program that computes takes longer than it would, and must not be taken for one that waits: whoever
    used a twentieth of its CPU limit since the last look has another period. In the end there is a wall, whatever it does.
    """
    period = limits["wall_seconds"]
    deadline, used = time.monotonic() + period, 0.0
    last = time.monotonic() + period + _SLOWEST * limits["cpu_seconds"]
    pieces: list[bytes] = []
    size = 0
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    while True:
        left = min(deadline, last) - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            before, used = used, cpu_seconds_of(child)
            if used - before < limits["cpu_seconds"] / 20 or time.monotonic() >= last:
                return b"".join(pieces), "stalled"
            deadline = time.monotonic() + period
            continue
        piece = os.read(reading, 1 << 16)
        if not piece:
            return b"".join(pieces), "closed"
        pieces.append(piece)
        size += len(piece)
        if size > limits["output_bytes"]:
            return b"".join(pieces), "output"


def cpu_seconds_of(process: int) -> float:
    """CPU time of a process so far, by its own clock (clock_getcpuclockid(3)): there is no /proc here."""
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:  # it has just ended
        return 0.0


def become_program(limits: dict[str, Any], writing: int, folder: str, isolated: bool) -> None:
    """In the forked child: give up everything that is not the program's, then run it. Does not return."""
    code = NOT_ISOLATED
    try:
        job = json.loads(read_frame(0))
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if isolated:
            own_namespaces()
        os.chdir(folder)
        os.environ["HOME"] = os.environ["TMPDIR"] = folder
        nothing = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        if writing != RESULTS:
            os.dup2(writing, RESULTS)
        os.closerange(RESULTS + 1, 64)  # the job pipe and others of the zygote: RLIMIT_NOFILE is 64
        set_limits(limits)
        syscalls.drop_capabilities()
        syscalls.install_filter(seccomp.filter_for(os.getpid(), isolated=isolated))
        code = 1  # from here on an ending is the program's own
        runner.run(job, RESULTS)
        code = 0
    finally:
        os._exit(code)


def own_namespaces() -> None:
    """A user, mount and IPC namespace of the program's own: an empty /tmp, and an empty /proc over the real one."""
    user, group = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
    map_identity(user, group)
    syscalls.mount("tmpfs", "/proc", "tmpfs", syscalls.MS_RDONLY, "size=4k")
    syscalls.mount("tmpfs", "/tmp", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=16m,nr_inodes=4096")
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=16m,nr_inodes=4096")


def set_limits(limits: dict[str, Any]) -> None:
    """Kernel limits. The soft CPU limit ends a program with SIGXCPU; one that ignores it, a second later with SIGKILL.

    Threads are counted by the user namespace (Linux 5.14), which is the program's own; without one, by the user, whose other
    threads count, too.
    """
    cpu, memory = limits["cpu_seconds"], limits["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_NPROC, (limits["tasks"], limits["tasks"]))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, 8 << 20))


def tasks_of_this_user() -> int:
    """How many threads the user has whom programs run as, besides theirs: limits of the user count all of them."""
    user = NOBODY if can_become_nobody() else os.getuid()
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def main(rung: str, scratch: str, packages: list[str]) -> None:
    """Isolate, say so, then run job after job until the input ends."""
    others = 0
    os.environ.pop("MALLOC_ARENA_MAX", None)  # it was for the C library, and is no program's business
    for name in PRELOADED.split():
        __import__(name)
    isolated = rung == "namespaces"
    try:
        if isolated:
            enter_namespaces(packages)
        else:
            others = tasks_of_this_user()
            enter_landlock(scratch, packages)
    except OSError as failure:
        write_frame(1, json.dumps({"error": str(failure)}).encode())
        return
    write_frame(1, b"{}")
    # What forks share is not touched by their garbage collectors, so the kernel need not copy it.
    gc.collect()
    gc.freeze()
    sys.path += places_of(packages) if isolated else packages
    if packages:  # a library of numbers takes threads, and address space for each, by the cores of the machine
        os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    while os.read(0, 1):
        supervisor = os.fork()
        if supervisor == 0:
            try:
                supervise(isolated, scratch, others)
            finally:
                os._exit(0)
        os.waitpid(supervisor, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
