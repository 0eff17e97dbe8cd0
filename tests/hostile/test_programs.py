"""Programs that want out, or want to pass without being right. Every rung that this machine has is attacked."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillhouse.datasets.tasks.judge import judge, program_of
from stillhouse.errors import RecipeError, SandboxUnavailable
from stillhouse.home import facts
from stillhouse.nouns import Example, Message, Task
from stillhouse.sandbox import pool
from stillhouse.sandbox.inner import seccomp
from stillhouse.sandbox.packages import packages_of
from stillhouse.sandbox.pool import Sandbox
from stillhouse.sandbox.programs import Limits, Program
from stillhouse.sandbox.worker import RUNGS, Worker

LIMITS = Limits(cpu_seconds=1, wall_seconds=4.0, memory_bytes=256 << 20, output_bytes=200_000)
TASK = Task(
    id="t",
    messages=(Message("user", "q"),),
    entry_point="f",
    tests=(Example((1,), 2), Example((5,), 6), Example((0,), 1)),
)


@pytest.fixture(scope="module", params=RUNGS)
def sandbox(request):
    try:
        made = Sandbox(LIMITS, workers=1, rung=request.param)
    except SandboxUnavailable as failure:
        pytest.skip(str(failure))
    with made:
        yield made


def run(sandbox: Sandbox, body: str, *arguments: object):
    """The outcome of ``f(*arguments)`` with this body."""
    code = "import os, sys\ndef f(*a):\n" + "\n".join("    " + line for line in body.splitlines())
    return sandbox.run(Program(code, "f", (list(arguments),)))


def value(outcome):
    assert outcome.status == "finished", outcome
    return outcome.calls[0].value


def error(outcome):
    assert outcome.status == "finished", outcome
    return outcome.calls[0].error


def verdict(sandbox: Sandbox, code: str):
    return next(judge(sandbox, [(TASK, f"```python\n{code}\n```")]))


def alive_and_well(sandbox: Sandbox) -> None:
    assert verdict(sandbox, "def f(x): return x + 1").status == "passed"


# --- getting out


@pytest.mark.parametrize(
    "body",
    [
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "import subprocess; subprocess.run(['true'])",
        "import socket; socket.create_connection(('127.0.0.1', 80), 1)",
        "open('/etc/passwd').read()",
        "open('/etc/hostname').read()",
        "open('/proc/1/environ').read()",
        "open('/proc/self/mem', 'rb').read(1)",
        "os.listdir(os.path.expanduser('~root') + '/.ssh')",
        "os.chroot('/tmp')",
        "os.setuid(0)",
        "os.kill(os.getppid() or 1, 9)",
        "os.kill(-1, 9)",
        "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "import ctypes; assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0",
        "import ctypes; assert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, 0) == 0",
        "import ctypes; assert ctypes.CDLL(None).syscall(425, 1, 0) > 0",  # io_uring_setup
        "import ctypes; assert ctypes.CDLL(None).syscall(101, 0, 0, 0, 0) == 0",  # ptrace by number
        "os.mknod('x')",
        "os.nice(-5)",
        "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, 1)",
        "import fcntl; fcntl.fcntl(0, 10, 9)",  # F_SETSIG
        "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",  # TIOCSTI
        "os.truncate('/etc/passwd', 0)",
        "os.chmod('/usr', 0o777)",
        "os.utime('/usr', (1, 1))",
        "open('/usr/share/zoneinfo/x', 'w')",
        "os.symlink('/etc/passwd', 'x'); open('x').read()",
        "os.link('/etc/ld.so.cache', 'x')",
        "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW)",
        "import socket; s = socket.socket(); s.settimeout(1); s.connect(('8.8.8.8', 53))",
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('10.0.0.1', 53))",
        "open('../x', 'w')",
        "os.listdir('/usr/src')",
        "os.listdir('/usr/local')",
        "open('/usr/share/common-licenses/BSD').read()",
        "import stillhouse",
        "import pip",
    ],
)
def test_out_of_reach(sandbox, body):
    outcome = run(sandbox, body)
    assert outcome.status in ("finished", "crash"), outcome
    if outcome.status == "finished":
        assert outcome.calls[0].error, f"{body} went through: {outcome}"
    alive_and_well(sandbox)


@pytest.mark.parametrize("place", ["/usr/x", "/x", "/lib/x", "/dev/x", "/var/tmp/x", "/home/x"])
def test_no_writing_outside_its_own_folder(sandbox, place):
    assert error(run(sandbox, f"open({place!r}, 'w').write('x')"))
    assert not Path(place).exists()


def test_the_host_cannot_be_seen(sandbox, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    assert error(run(sandbox, f"return open({str(secret)!r}).read()"))
    assert error(run(sandbox, f"return open({str(Path(__file__))!r}).read()"))
    assert error(run(sandbox, f"return os.listdir({str(Path.cwd())!r})"))


def test_no_environment_no_arguments_no_descriptors(sandbox, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "sk-secret")
    with Sandbox(LIMITS, workers=1, rung=sandbox.rung) as fresh:
        assert {key for key, _ in value(run(fresh, "return dict(os.environ)")).items} <= {"HOME", "TMPDIR", "LC_CTYPE"}
        found = run(fresh, "import gc\nreturn [repr(o) for o in gc.get_objects() if isinstance(o, dict)]")
        assert "sk-secret" not in repr(found)
        opened = "n = []\nfor d in range(64):\n    try: os.fstat(d); n.append(d)\n    except OSError: pass\nreturn n"
        assert value(run(fresh, opened)) == [0, 1, 2, 3], "standard streams (to nowhere) and its own pipe"


def test_no_installed_package_and_so_no_task_is_within_reach(sandbox):
    """Wherever Stillhouse is installed, the suite with its expected values must not be readable from inside."""
    import stillhouse

    body = """
found = []
for top in sys.path + ['/usr', '/lib', '/lib64', os.path.dirname(os.__file__)]:
    for folder, folders, files in os.walk(top):
        found += [folder + '/' + name for name in files if name in ('suite.jsonl', 'HumanEval.jsonl.gz')]
        found += [folder + '/' + name for name in folders if name in ('site-packages', 'dist-packages')
                  and os.path.exists(folder + '/' + name) and any(os.scandir(folder + '/' + name))]
return found
"""
    outcome = run(sandbox, body.strip())
    assert value(outcome) == [], outcome
    assert not outcome.calls[0].error
    assert error(run(sandbox, f"os.listdir({str(Path(stillhouse.__file__).parent)!r})"))
    used = "import sqlite3, decimal, zlib, ctypes, unicodedata, json.tool, email, xml.dom, concurrent.futures"
    assert run(sandbox, f"{used}\nreturn 1").calls[0].value == 1, "the whole standard library is there"


def test_nothing_is_left_for_the_next_program(sandbox):
    if sandbox.rung == "namespaces":
        assert value(run(sandbox, "open('left', 'w').write('x'); return sorted(os.listdir('.'))")) == [
            "left",
            "program.py",
        ]
    else:
        assert error(run(sandbox, "open('left', 'w').write('x')")), "on the weaker rung there is nowhere to write"
    assert value(run(sandbox, "return [name for name in os.listdir('.') if name != 'program.py']")) == []
    run(sandbox, "import builtins, json, math\nbuiltins.len = json.dumps = math.sqrt = None")
    assert value(run(sandbox, "import math; return [len('ab'), math.sqrt(4)]")) == [2, 2.0]


# --- using up


def test_endless_loop(sandbox):
    outcome = run(sandbox, "while True: pass")
    assert outcome.status == "timeout"
    assert outcome.cpu_seconds < 2.5
    alive_and_well(sandbox)


def test_endless_loop_in_c(sandbox):
    assert run(sandbox, "return 9 ** 9 ** 9").status in ("timeout", "memory")
    assert run(sandbox, "import re; return re.match(r'(a+)+$', 'a' * 40 + 'b')").status == "timeout"
    ignoring = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nsum(iter(int, 1))"
    assert run(sandbox, ignoring).status == "timeout"
    alive_and_well(sandbox)


def test_sleeping_is_stalling_not_wrong(sandbox):
    started = time.monotonic()
    assert run(sandbox, "import time; time.sleep(60)").status == "stalled"
    assert 2 * LIMITS.wall_seconds <= time.monotonic() - started < 5 * LIMITS.wall_seconds, "it had a second chance"
    alive_and_well(sandbox)


def test_a_program_that_computes_is_not_taken_for_one_that_waits():
    """Beside much other work a second of computing takes many: the verdict must be that of an idle machine."""
    limits = Limits(cpu_seconds=2, wall_seconds=0.5, memory_bytes=256 << 20, output_bytes=200_000)
    slow = "t = time.process_time()\nwhile time.process_time() - t < 0.8: pass\nreturn 1"
    with Sandbox(limits, workers=1) as sandbox:
        body = "import time\n" + slow
        assert run(sandbox, body).status == "finished", "0.8 s of CPU time take longer than 0.5 s on any clock"
        assert run(sandbox, "while True: pass").status == "timeout"
        started = time.monotonic()
        assert run(sandbox, "import time\nwhile True: time.sleep(0.1)").status == "stalled"
        assert time.monotonic() - started < 5


def test_the_same_verdicts_on_a_loaded_machine():
    answers = [
        "def f(x): return x + 1",
        "def f(x): return x",
        "def f(x):\n    while True: pass",
        "import time\ndef f(x):\n    t = time.process_time()\n    while time.process_time() - t < 0.2: pass\n    return x + 1",
        "def f(x): raise ValueError",
    ] * 2
    pairs = [(TASK, f"```python\n{code}\n```") for code in answers]
    limits = Limits(cpu_seconds=1, wall_seconds=1.0, memory_bytes=256 << 20, output_bytes=200_000)
    with Sandbox(limits) as sandbox:
        idle = [(verdict.status, verdict.check) for verdict in judge(sandbox, pairs)]
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))]
        try:
            loaded = [(verdict.status, verdict.check) for verdict in judge(sandbox, pairs)]
        finally:
            for process in busy:
                process.kill()
                process.wait()
    assert loaded == idle
    assert len(set(idle)) == 4


def test_memory_bomb(sandbox):
    assert run(sandbox, "return len('x' * (1 << 40))").status == "memory"
    assert run(sandbox, "a = []\nwhile True: a.append(bytearray(1 << 20))").status == "memory"
    assert run(sandbox, "return len(bytes(300 << 20))").status == "memory"
    alive_and_well(sandbox)


# --- what another program said or was

SCAN = """
import ctypes, os, re
def f(x):
    libc = ctypes.CDLL(None)
    r, w = os.pipe()
    # Around what malloc gives for little and for much, an object, a constant, and this stack: every region of the heap.
    held = ctypes.create_string_buffer(4096), ctypes.create_string_buffer(1 << 20)
    bases = [ctypes.addressof(one) for one in held] + [id(object()), id(f.__code__), id(os)]
    bases.append(ctypes.cast(ctypes.byref(ctypes.c_int()), ctypes.c_void_p).value)
    pages = {p for base in bases for p in range((base & ~0xfff) - (24 << 20), base + (24 << 20), 4096)}
    found = 0
    for p in sorted(pages):
        page = os.read(r, 4096) if libc.write(w, ctypes.c_void_p(p), 4096) == 4096 else b""
        found += len(re.findall(b"canary[-]of[-]the[-]job[-]before", page))  # itself no match
    return found
"""


@pytest.mark.parametrize("where", ["code", "inputs", "check", "said"])
def test_nothing_of_another_job_is_in_a_programs_memory(sandbox, where):
    canary = "canary-of-the-job" + "-before"
    program = Program(
        f"# {canary if where == 'code' else ''}\ndef f(x): return {canary + 'x' if where == 'said' else ''!r}",
        "f",
        ([canary if where == "inputs" else 1],),
        f"# {canary}\ndef check(f): f(1)" if where == "check" else "",
    )
    for _ in range(3):
        assert sandbox.run(program).status == "finished"
    generous = Limits(cpu_seconds=5, wall_seconds=20.0)
    with Sandbox(generous, workers=1, rung=sandbox.rung) as fresh:
        for _ in range(3):
            assert fresh.run(program).status == "finished"
        assert value(fresh.run(Program(SCAN, "f", ([1],)))) == 0
        own = fresh.run(Program(f"KEPT = ['{canary}']\n{SCAN}", "f", ([1],)))
        assert value(own) > 0, "and the scan finds what is there"


def test_threads_have_a_limit_and_enough_of_them_run(sandbox):
    body = "import threading, time\nn = 0\ntry:\n    while n < {most}:\n"
    body += "        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n        n += 1\n"
    body += (
        'except RuntimeError: pass\nos.write(3, (\'{{"value": %d}}\\n{{"done": true}}\\n\' % n).encode())\nos._exit(0)'
    )
    if sandbox.rung == "namespaces" or os.geteuid() != 0:  # root's threads are counted in its own namespace alone
        with Sandbox(Limits(tasks=20), workers=1, rung=sandbox.rung) as few:
            assert value(run(few, body.format(most=500))) < 60
    with Sandbox(Limits(), workers=1, rung=sandbox.rung) as usual:
        assert value(run(usual, body.format(most=64))) == 64


def test_no_program_holds_a_worker_longer_than_its_wall():
    """It computes just enough never to be taken for one that waits."""
    body = "import time\nwhile True:\n    t = time.process_time()\n    while time.process_time() - t < 0.06: pass\n    time.sleep(0.4)"
    with Sandbox(Limits(cpu_seconds=1, wall_seconds=0.5), workers=1) as sandbox:
        started = time.monotonic()
        assert sandbox._once(
            Program("import os, sys\ndef f(*a):\n    " + body.replace("\n", "\n    "), "f", ([],))
        ).status
        assert time.monotonic() - started < 9


WORKS = {
    "asyncio": "import asyncio\nasync def g():\n    await asyncio.sleep(0)\n    return 7\nreturn asyncio.run(g())",
    "copy": "import shutil\nopen('a', 'w').write('x')\nshutil.copy2('a', 'b')\nreturn open('b').read()",
    "sqlite": "import sqlite3\nd = sqlite3.connect('d.db')\nd.execute('create table t(a)')\nd.execute('insert into t values (7)')\nd.commit()\nreturn d.execute('select a from t').fetchone()[0]",
    "shelve": "import shelve\nwith shelve.open('s') as s: s['a'] = 7\nwith shelve.open('s') as s: return s['a']",
    "links": "open('a', 'w').write('x'); os.link('a', 'b'); os.symlink('a', 'c'); return open('c').read() + open('b').read()",
    "lock": "import fcntl\nwith open('l', 'w') as f: fcntl.flock(f, fcntl.LOCK_EX)\nreturn 7",
    "semaphore": "import multiprocessing\ns = multiprocessing.Semaphore(2)\nreturn s.acquire()",
    "loopback": "import socket, threading\ns = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(s.getsockname())\na, _ = s.accept()\nc.sendall(b'hi')\nreturn a.recv(9).decode()",
    "pool": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(32) as p: return sum(p.map(abs, range(100)))",
    "zone": "import zoneinfo, datetime\nreturn str(datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')).utcoffset())",
    "source": "import inspect\nreturn inspect.getsource(f).startswith('def f')",
    "file": "return os.path.basename(__file__)",
    "arguments": "import sys\nreturn len(sys.argv)",
    "localhost": "import socket\ns = socket.create_server(('localhost', 0))\nc = socket.create_connection(('localhost', s.getsockname()[1]))\nreturn bool(c)",
    "class source": "import inspect\nclass Held: pass\nreturn inspect.getsource(Held).strip().startswith('class Held')",
    "its own file": "return 'def f' in open(__file__).read()",
    "limits": "import resource\nreturn len(resource.getrlimit(resource.RLIMIT_STACK))",
    "stack": "import resource, sys\ntry: resource.setrlimit(resource.RLIMIT_STACK, resource.getrlimit(resource.RLIMIT_STACK))\nexcept (ValueError, OSError): pass\nreturn 7",
    "exit": "try: exit(3)\nexcept SystemExit as e: return e.code",
}


@pytest.mark.parametrize("name", WORKS)
def test_what_stays_inside_its_own_namespaces_works(name):
    try:
        sandbox = Sandbox(Limits(), workers=1, rung="namespaces")
    except SandboxUnavailable as failure:
        pytest.skip(str(failure))
    if name == "zone" and not Path("/usr/share/zoneinfo/Europe/Berlin").exists():
        pytest.skip("this machine has no time zones")
    with sandbox:
        assert value(run(sandbox, WORKS[name]))


def test_thread_bomb(sandbox):
    body = "import threading, time\nfor n in range(100000):\n    "
    body += "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    outcome = run(sandbox, body)
    assert outcome.status in ("finished", "memory", "timeout", "stalled", "crash")
    if outcome.status == "finished":
        assert outcome.calls[0].error
    alive_and_well(sandbox)


def test_fork_bomb(sandbox):
    before = len(os.listdir("/proc"))
    body = "while True:\n    try: os.fork()\n    except OSError: return 'refused'"
    assert value(run(sandbox, body)) == "refused"
    assert len(os.listdir("/proc")) < before + 50
    alive_and_well(sandbox)


def test_endless_output(sandbox):
    assert run(sandbox, "while True: print('x' * 10000)").status == "timeout"
    assert run(sandbox, "while True: os.write(3, b'x' * 10000)").status == "output"
    assert run(sandbox, "return 'x' * 300000").status == "output"
    assert error(run(sandbox, "open('big', 'wb').write(bytes(30 << 20))"))
    alive_and_well(sandbox)


def test_deep_recursion_and_deep_values(sandbox):
    assert "RecursionError" in error(run(sandbox, "def g(): return g()\nreturn g()"))
    assert error(run(sandbox, "x = []\nfor _ in range(100000): x = [x]\nreturn x"))
    alive_and_well(sandbox)


def test_a_daemon_does_not_stay(sandbox):
    body = """
import threading, time
def live():
    while True: open('alive', 'a').write('x'); time.sleep(0.01)
threading.Thread(target=live, daemon=False).start()
return 1
"""
    outcome = run(sandbox, body.strip())
    assert outcome.calls[0].value == 1
    assert value(run(sandbox, "import time\ntime.sleep(0.2)\nreturn os.listdir('.')")) in ([], ["program.py"])


# --- passing without being right


@pytest.mark.parametrize(
    "code",
    [
        "def f(x): return 0",
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise SystemExit(0)",
        "def f(x):\n    import os; os._exit(0)",
        "print('passed all 3 checks')\ndef f(x): return 0",
        "import os\nos.write(3, b'{\"value\": 2}\\n')\nos._exit(0)",
        "import os\nos.write(3, b'{\"done\": true}\\n')\nos._exit(0)",
        "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef f(x): return E(7)",
        "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()",
        "import builtins\nbuiltins.all = builtins.any = lambda *a: True\ndef f(x): return 0",
        "import json\njson.dumps = lambda *a, **k: '{\"value\": 2}'\ndef f(x): return 0",
        "import os, json\nold = os.write\nos.write = lambda d, b: old(d, b'{\"value\": 2}\\n')\ndef f(x): return 0",
        "import sys\nfor m in list(sys.modules.values()):\n    for n in ('equal', 'judge', 'run', 'encode'):\n"
        "        if hasattr(m, n) and m.__name__ in ('runner', '__main__'): setattr(m, n, lambda *a: 2)\ndef f(x): return 0",
        "import gc\nfor o in gc.get_objects():\n"
        "    if isinstance(o, dict) and 'inputs' in o: o['inputs'] = []\ndef f(x): return 0",
        "def f(x): return True",
        "def f(x): return str(x + 1)",
        "def f(x): return [x + 1]",
        "def f(x): yield x + 1",
        "async def f(x): return x + 1",
        "f = 3",
        "x = 1",
    ],
)
def test_cheats_do_not_pass(sandbox, code):
    found = verdict(sandbox, code)
    assert found.status not in ("passed", "not judged"), found
    assert found.reason
    assert found.isolation == sandbox.isolation
    alive_and_well(sandbox)


def test_answers_can_be_forged_only_by_knowing_them(sandbox):
    """What comes out of the pipe is compared outside: a program that writes the right values itself has computed them."""
    forged = 'import os\nos.write(3, b\'{"value": 2}\\n{"value": 6}\\n{"value": 1}\\n{"done": true}\\n\')\nos._exit(0)'
    assert verdict(sandbox, forged).status == "passed"
    assert verdict(sandbox, forged.replace("6", "7")).status == "failed"


def test_the_expected_values_are_not_inside(sandbox):
    """The program searches all of its memory that Python can reach for the result it should return."""
    code = """
import gc
def f(x):
    wanted = str(int("987653") + 1)
    found = [repr(o) for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]
    return [text[:200] for text in found if wanted in text]
"""
    task = Task(id="t", messages=(), entry_point="f", tests=(Example((1,), 987654),))
    program = program_of(task, f"```python\n{code}\n```")
    assert isinstance(program, Program)
    assert value(sandbox.run(program)) == []


@pytest.mark.parametrize(
    "line",
    [b"{", b"[1]", b'{"value": ["set", [[]]]}', b'{"value": ["nonsense", 1]}', b'{"value": {}}', b"null", b"\xff"],
)
def test_nonsense_in_place_of_results_is_not_believed(sandbox, line):
    code = f"import os\ndef f(x):\n    os.write(3, {line!r} + b'\\n'); os._exit(0)"
    assert verdict(sandbox, code).status == "crash"
    alive_and_well(sandbox)


@pytest.mark.parametrize(
    "code",
    [
        "def f(x): raise ValueError('\\ud800')",
        "raise ValueError('\\ud800')",
        "def f(x): return '\\ud800'",
        "import os\ndef f(x):\n    os.write(3, b'{\"value\":[\"float\",1' + b'0' * 400 + b']}\\n'); os._exit(0)",
        "import os\ndef f(x):\n    os.write(3, b'{\"error\":' + b'[' * 900 + b']' * 900 + b'}\\n'); os._exit(0)",
    ],
)
def test_what_a_program_says_can_always_be_written_down(sandbox, code):
    found = verdict(sandbox, code)
    assert found.status != "passed"
    now = {"at": "t", "by": "me", "run": "r", "key": "k", "task": "t", "judge": "j"}
    assert facts.decode(facts.encode(facts.Judged(**now, verdict=found))).verdict == found


def test_a_trusting_suite_says_so(sandbox):
    task = Task(id="t", messages=(), entry_point="f", check="def check(candidate):\n    assert candidate(1) == 2")
    good, bad = judge(sandbox, [(task, "```\ndef f(x): return x + 1\n```"), (task, "```\ndef f(x): return x\n```")])
    assert (good.status, good.trust, bad.status) == ("passed", "trusting", "failed")


# --- the sandbox itself


def test_a_dead_worker_is_replaced(sandbox):
    import signal

    with Sandbox(LIMITS, workers=1, rung=sandbox.rung) as fresh:
        os.killpg(fresh._all[0]._process.pid, signal.SIGKILL)
        assert run(fresh, "return 1").status == "crash"
        assert value(run(fresh, "return 1")) == 1


def test_outcomes_come_in_order(sandbox):
    programs = [Program(f"def f(): return {n}", "f", ([],)) for n in range(40)]
    assert [outcome.calls[0].value for outcome in sandbox.map(programs)] == list(range(40))


def test_a_machine_without_isolation_is_refused(monkeypatch):
    class NoWorker(Worker):
        def __init__(self, rung: str) -> None:
            raise SandboxUnavailable(f"({rung}: not here)")

    monkeypatch.setattr(pool, "Worker", NoWorker)
    with pytest.raises(SandboxUnavailable, match=r"namespaces: not here.*landlock: not here") as caught:
        Sandbox()
    assert caught.value.exit_code == 3
    monkeypatch.setattr(pool.platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        Sandbox()


def test_the_allow_list_leaves_out_what_gets_out():
    numbers = {
        "socket": 41, "connect": 42, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "mount": 165,
        "unshare": 272, "setns": 308, "bpf": 321, "execveat": 322, "io_uring_setup": 425, "clone": 56, "clone3": 435,
    }  # fmt: skip
    assert not set(numbers.values()) & set(seccomp.ALLOWED.values())
    assert not (set(numbers.values()) - {numbers["connect"]}) & set(seccomp._WITHIN.values())
    assert len(set(seccomp.ALLOWED.values())) == len(seccomp.ALLOWED)
    assert all(len(seccomp.filter_for(1, isolated=isolated)) % 8 == 0 for isolated in (True, False))


@pytest.mark.parametrize("rung", RUNGS)
def test_a_program_sees_the_packages_that_were_named_and_no_others(rung, tmp_path):
    numpy = packages_of(["numpy"], tmp_path)
    assert [version.partition("==")[0] for version in numpy.versions] == ["numpy"]
    assert packages_of(["NumPy"], tmp_path) == numpy
    with Sandbox(Limits(cpu_seconds=5), workers=1, rung=rung, packages=numpy.folders) as sandbox:
        summed = Program("import numpy\ndef f(x):\n    return float(numpy.array(x).sum())", "f", (([1, 2],),))
        assert sandbox.run(summed).calls[0].value == 3.0
        for name in ("stillhouse", "msgspec", "pytest"):
            assert name in sandbox.run(Program(f"import {name}\ndef f():\n    return 1", "f", ((),))).error
        writes = "import numpy\ndef f():\n    open(numpy.__file__, 'a').write('x')"
        assert "Error" in sandbox.run(Program(writes, "f", ((),))).calls[0].error
    with Sandbox(workers=1, rung=rung) as bare:
        assert "numpy" in bare.run(summed).error


def test_a_package_that_is_not_installed_is_refused_by_name(tmp_path):
    for name in ("no-such-package", "", "../numpy"):
        with pytest.raises(RecipeError, match="is not installed here"):
            packages_of([name], tmp_path)
