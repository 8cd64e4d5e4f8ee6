"""Fixtures shared by all tests."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Last, so that tests meet the package as it was installed, with its compiled engine; only benchmarks are not.
sys.path.append(str(Path(__file__).parents[1]))
# Tests of reports start commands too, with the helpers of the command line's tests.
sys.path.append(str(Path(__file__).parent / "harness"))

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests run side by side on small machines: threads that wait for each other would cost minutes."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed of its own is the same in every run, and whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts() -> None:
    """A shell starts background jobs with SIGINT ignored, and they would pass that on to what tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets and accuracy tables: TFNAS_DATA, or shared/data beside the project."""
    folder = Path(os.environ.get("TFNAS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "nasbench201_accuracy.parquet").is_file():
        pytest.skip(f"no real data at {folder}; set TFNAS_DATA to the folder that holds it")
    return folder
