"""Names of GPU metrics, old and new, and which measure of activity each is. Data.

DCGM 4.6.0 (2026-07) renamed fields: DCGM_FI_PROF_SM_ACTIVE became DCGM_FI_PROF_SM_UTIL_RATIO. Ratios go from 0 to 1, percents
from 0 to 100, and which one a metric is is known by its name alone: a GPU at 1 % looks like one at 100 % otherwise. SM_ACTIVE
is off by default in both CSVs of dcgm-exporter.
"""

from typing import NamedTuple

from stillhouse.compute.readings import Rung


class Metric(NamedTuple):
    """A measure, and what its value is divided by for a share of 1."""

    rung: Rung
    full: float


METRICS = {
    "DCGM_FI_PROF_SM_ACTIVE": Metric(Rung.SM_ACTIVE, 1),
    "DCGM_FI_PROF_SM_UTIL_RATIO": Metric(Rung.SM_ACTIVE, 1),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": Metric(Rung.GR_ENGINE, 1),
    "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO": Metric(Rung.GR_ENGINE, 1),
    "DCGM_FI_DEV_GPU_UTIL": Metric(Rung.GPU_UTIL, 100),
    "DCGM_FI_DEV_GPU_UTIL_RATIO": Metric(Rung.GPU_UTIL, 1),
    "nvidia_gpu_duty_cycle": Metric(Rung.GPU_UTIL, 100),
    "DCGM_FI_DEV_POWER_USAGE": Metric(Rung.POWER, 1),
    "DCGM_FI_DEV_BOARD_POWER_WATTS": Metric(Rung.POWER, 1),
    "nvidia_gpu_power_usage_milliwatts": Metric(Rung.POWER, 1000),
}
# A GPU that draws more than one and a half times its idle power does something.
BUSY_POWER = 1.5
# The names by which exporters and relabelling call what a sample is of.
NODE_LABELS = ("Hostname", "hostname", "node", "exported_node", "instance", "host")
GPU_LABELS = ("UUID", "uuid", "gpu", "minor_number", "device")
JOB_LABELS = ("hpc_job", "slurm_job", "jobid")
POD_LABELS = ("exported_pod", "pod")
NAMESPACE_LABELS = ("exported_namespace", "namespace")
MIG_LABELS = ("GPU_I_PROFILE", "gpu_i_profile")
MIG_ID_LABELS = ("GPU_I_ID", "gpu_i_id")
