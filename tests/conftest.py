"""Fixtures for all tests: the devices that exist here, and a home where a test can neither find nor fetch data."""

import os
import warnings

import pytest
import torch
from hypothesis import HealthCheck, settings

# No timed tests: on a busy machine an example may be slow without being wrong. CI draws the same examples every time.
settings.register_profile(
    "mixup",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("mixup")

torch.set_num_threads(1)  # pytest -n starts a process a core


def available_devices() -> list[str]:
    """Names of the devices a tensor can live on here: cpu, and cuda or mps where there is one."""
    with warnings.catch_warnings():  # a driver too old for this torch is a device that does not exist, not an error
        warnings.simplefilter("ignore")
        devices = ["cpu"]
        if torch.cuda.is_available():
            devices.append("cuda")
        if torch.backends.mps.is_available():
            devices.append("mps")
    return devices


# Session scope, so that it can stand beside Hypothesis' @given.
@pytest.fixture(scope="session", params=available_devices())
def device(request) -> torch.device:
    """Each device that exists here, in turn."""
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def no_data_no_network(monkeypatch, tmp_path_factory):
    """No test sees the data of whoever runs it, downloads, or opens a window; one that needs data sets MIXUP_DATA."""
    monkeypatch.setenv("MIXUP_DATA", str(tmp_path_factory.getbasetemp() / "no-data"))
    monkeypatch.setenv("MIXUP_OFFLINE", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
