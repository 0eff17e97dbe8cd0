"""A real Slurm with its accounting on loopback, for as long as a test takes: munge, MariaDB, slurmdbd, slurmctld, slurmd,
eight GPUs that are no devices. Needs root, and Debian's packages slurm-wlm, slurmdbd, mariadb-server and munge.
"""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path

NEEDS = ("munged", "mariadbd", "mysql_install_db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct")


def missing():
    """Why it cannot run here, or nothing."""
    absent = [name for name in NEEDS if shutil.which(name) is None and not Path(f"/usr/sbin/{name}").exists()]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return "" if os.getuid() == 0 else "its daemons are started as root"


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Slurm:
    def __init__(self, folder):
        self.folder, self.processes, self.host = folder, [], socket.gethostname().partition(".")[0]
        for name in ("db", "spool", "state", "log"):
            (folder / name).mkdir(parents=True)
        self.database, dbd, controller, daemon = free_ports(4)
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
        }
        self._configure(dbd, controller, daemon)

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()

    def run(self, *words):
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    def until(self, condition, seconds=90):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.CalledProcessError):
                if condition():
                    return
            time.sleep(0.5)
        logs = "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in (self.folder / "log").iterdir()
        )
        raise AssertionError(f"Slurm did not come so far: {logs}")

    def _daemon(self, *words):
        log = (self.folder / "log" / words[0]).open("w")
        self.processes.append(subprocess.Popen(words, env=self.environment, stdout=log, stderr=subprocess.STDOUT))
        log.close()

    def _start(self):
        at = self.folder
        self._daemon(
            "munged",
            "--foreground",
            "--force",
            "--key-file",
            f"{at}/munge.key",
            "--socket",
            f"{at}/munge.sock",
            "--pid-file",
            f"{at}/munge.pid",
            "--log-file",
            f"{at}/log/munge",
            "--seed-file",
            f"{at}/munge.seed",
        )
        self.run("mysql_install_db", "--user=root", f"--datadir={at}/db", "--auth-root-authentication-method=normal")
        self._daemon(
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={at}/db",
            f"--socket={at}/db.sock",
            f"--port={self.database}",
            "--bind-address=127.0.0.1",
            f"--pid-file={at}/db.pid",
            "--innodb-buffer-pool-size=64M",
        )
        self.until(lambda: "alive" in self.run("mysqladmin", f"--socket={at}/db.sock", "ping"))
        self.run(
            "mysql",
            f"--socket={at}/db.sock",
            "-e",
            "create database slurm_acct_db; create user 'slurm'@'127.0.0.1' identified by "
            "'here'; grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1'",
        )
        self._daemon("slurmdbd", "-D")
        self.until(lambda: self.run("sacctmgr", "-i", "list", "cluster", "-P") is not None)
        self.run("sacctmgr", "-i", "add", "cluster", "drill")
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D")
        self.until(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"))

    def _configure(self, dbd, controller, daemon):
        at = self.folder
        (at / "munge.key").write_bytes(os.urandom(64))
        (at / "munge.key").chmod(0o600)
        for number in range(8):
            os.mknod(at / f"gpu{number}", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        (at / "gres.conf").write_text(f"Name=gpu File={at}/gpu[0-7]\n")
        (at / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (at / "slurmdbd.conf").write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={at}/munge.sock\nDbdHost=localhost\nDbdPort={dbd}\nSlurmUser=root\n"
            f"PidFile={at}/dbd.pid\nStorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\nStoragePort={self.database}\n"
            "StorageUser=slurm\nStoragePass=here\nStorageLoc=slurm_acct_db\n"
        )
        (at / "slurmdbd.conf").chmod(0o600)
        (at / "slurm.conf").write_text(
            f"ClusterName=drill\nSlurmctldHost={self.host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\nAuthType=auth/munge\n"
            f"AuthInfo=socket={at}/munge.sock\nSlurmctldPort={controller}\nSlurmdPort={daemon}\nSlurmctldPidFile={at}/ctld.pid\n"
            f"SlurmdPidFile={at}/d.pid\nSlurmdSpoolDir={at}/spool\nStateSaveLocation={at}/state\nProctrackType=proctrack/pgid\n"
            "TaskPlugin=task/none\nJobAcctGatherType=jobacct_gather/none\nMpiDefault=none\nSelectType=select/cons_tres\n"
            "SelectTypeParameters=CR_CPU\nPreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n"
            "SchedulerParameters=bf_interval=2,sched_interval=5\nAccountingStorageType=accounting_storage/slurmdbd\n"
            f"AccountingStorageHost=localhost\nAccountingStoragePort={dbd}\nAccountingStoragePass={at}/munge.sock\n"
            f"AccountingStorageTRES=gres/gpu\nGresTypes=gpu\nReturnToService=2\nKillWait=2\n"
            f"NodeName={self.host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} Gres=gpu:8 State=UNKNOWN\n"
            f"PartitionName=tenants Nodes={self.host} PriorityTier=1 PreemptMode=REQUEUE GraceTime=2 Default=YES State=UP\n"
            f"PartitionName=owner Nodes={self.host} PriorityTier=10 PreemptMode=OFF State=UP\n"
        )
