"""Run untrusted Python programs.

One *zygote* per worker is started inside an outer sandbox, with an empty environment, a root file system of its own, and as
the first process of a process namespace. For each program it forks a child, which enters user, mount and IPC namespaces of
its own, gives up every capability and most system calls, and runs the program; the zygote kills it when time is up. The
program gets plain inputs and hands back plain values over a pipe; what they
should have been is known only outside, so nothing that a program does to its own interpreter can make an answer right.

Rungs, best first; the one in use is named in every outcome:

``namespaces+seccomp``  user, mount, process, network, IPC and host-name namespaces; a root with nothing but Python's
                        standard library and shared libraries, read-only; a fresh 16 MiB /tmp per program, with the
                        program's own file in it; an allow-list of system calls. Limits can be read; setting one does
                        nothing and says that it did.
``landlock+seccomp``    for containers where namespaces are refused: the same allow-list, with Landlock in place of mounts,
                        and no folder at all to write to.
otherwise               refused: SandboxUnavailable.

Covered, on both rungs: network (with namespaces a loopback of its own, else no socket at all), writes outside its own temporary
folder, changing modes or times of files that are not its own, reading anything but the standard library and shared libraries
(installed packages, Stillhouse and its tasks among them, are hidden), the environment, memory (address space), CPU time (also
inside C code), new processes and programs (no fork, no exec; so many threads and no more), signals to others, endless output,
files left behind, pretending to have passed, what other programs said or were (no process that a program is forked from ever
reads a job).

Not covered: bugs in the kernel; side channels between programs and host (caches, timing); CPU time of its own up to the
limit; and, for suites whose tests run inside the program ("trusting"), a program that finds the tests and cheats.
On ``landlock+seccomp`` also: threads of a program that runs as root are bounded by its memory alone; whether a path exists can
be seen, though not what it holds; the programs of one worker share an IPC namespace.
"""
