"""Compute against the real thing: a Slurm that preempts, with its accounting; a Prometheus that scrapes an exporter."""

import contextlib
import shutil
import subprocess
import threading
import time
import urllib.request
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stillhouse.compute.importers.gpu_metrics import METRICS
from stillhouse.compute.importers.slurm_jobs import COMMAND
from tests import slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # daemons that take their time to start, and to preempt


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if why := slurm.missing():
        pytest.skip(f"no Slurm here: {why}")
    # The name of munge's socket may have a hundred characters.
    folder = tmp_path_factory.mktemp("s")
    with slurm.Slurm(folder) as running:
        yield running


def test_a_reclaim_drill_and_its_accounting_on_slurm(home, cluster):
    cluster.run(
        "sbatch",
        "--partition",
        "tenants",
        "--gres",
        "gpu:8",
        "--requeue",
        "--output",
        "/dev/null",
        "--wrap",
        "sleep 500",
    )
    cluster.until(lambda: "RUNNING" in cluster.run("squeue", "-h", "-o", "%T"))
    began = int(time.time())
    time.sleep(3)
    drilled = home(
        "compute",
        "drill",
        "--gpus",
        "8",
        "--promised",
        "5m",
        "--partition",
        "owner",
        "--json",
        SLURM_CONF=str(cluster.folder / "slurm.conf"),
        PATH=cluster.environment["PATH"],
    ).json
    assert drilled["kept"] == 1 and drilled["slowest_seconds"] < 300
    time.sleep(3)
    words = COMMAND.split()
    environment = {**cluster.environment, "SLURM_TIME_FORMAT": "%s"}
    said = subprocess.run(
        [*words, "-S", "now-1hours"], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    (home.home / "fleet.toml").write_text('[pools.tenants]\ngpus = 8\nprice = "1.00"\n')
    found = home("compute", "import", home.write("sacct.txt", said), "--json").json[0]
    assert found["rows"]["jobs"] >= 2, (said, found)
    since, until = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) for moment in (began - 60, time.time()))
    pools = {
        one["pool"]: one for one in home("compute", "use", "--since", since, "--until", until, "--json").json["pools"]
    }
    tenants = pools["tenants"]
    held = Decimal(tenants["states"]["unknown"]["gpu_hours"])
    assert 0 < held <= Decimal(tenants["layers"]["capacity"]), "nothing measures GPUs that are none"
    assert "PREEMPTED" in said or "REQUEUED" in said


class Exporter(BaseHTTPRequestHandler):
    def do_GET(self):
        lines = [
            f'{name}{{UUID="GPU-{gpu}",Hostname="n1",hpc_job="7"}} {value}'
            for name, value in (("DCGM_FI_DEV_GPU_UTIL", 100), ("DCGM_FI_PROF_SM_UTIL_RATIO", 0.4))
            for gpu in range(2)
        ]
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def prometheus(tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("no Prometheus here: it is Debian's package of that name")
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    (port,) = slurm.free_ports(1)
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: dcgm\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{exporter.server_address[1]}']\n"
    )
    words = [
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        exporter.shutdown()
        exporter.server_close()


def test_activity_from_a_real_prometheus(home, prometheus):
    began = int(time.time())
    for _ in range(60):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{prometheus}/-/ready", timeout=1) as answer:
            if answer.status == 200:
                break
        time.sleep(0.5)
    time.sleep(12)
    moments = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) for moment in (began - 10, time.time())]
    found = home(
        "compute",
        "fetch",
        prometheus,
        "--since",
        moments[0],
        "--until",
        moments[1],
        "--step",
        "1",
        "--pool",
        "p",
        "--json",
    ).json[0]
    assert found["rows"]["samples"] > 20 and found["left_out"] == {}
    jobs = home.write("jobs.csv", f"job,pool,gpus,start,end,ended\n7,p,2,{began - 5},{int(time.time())},completed\n")
    home("compute", "import", jobs)
    (pool,) = home("compute", "use", "--since", moments[0], "--until", moments[1], "--json").json["pools"]
    assert pool["measured_by"] == ["SM_ACTIVE"], "the better of the two measures, under its new name"
    assert pool["states"]["active-productive"]["share"] > 0
    assert (
        "refused the query" in home("compute", "fetch", prometheus, "--since", moments[0], "--query", "{", code=1).err
    )
    assert set(METRICS) >= {"DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_SM_UTIL_RATIO"}


def test_a_prometheus_that_is_away(home):
    (port,) = slurm.free_ports(1)
    said = home(
        "compute", "fetch", f"http://127.0.0.1:{port}", "--since", "2026-01-01", "--until", "2026-01-02", code=1
    ).err
    assert "does not answer" in said
