from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import postgres
import pytest
from hypothesis import HealthCheck, settings
from servers import Served

# Read when MLflow is imported, here and in processes that tests start.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

# A shell's background jobs ignore interrupts, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# ``nohup`` ignores hang-ups.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A busy machine is slow at times: that says nothing about the code. The same examples every time.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")


def pytest_collection_finish() -> None:
    """Freeze the objects of the imports; later garbage collections skip them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that tests share, each with studies of its own; it is not to be killed."""
    folder = tmp_path_factory.mktemp("server")
    made = Served(folder, f"sqlite:///{folder}/runs.db", "--asks-per-second", "1000", preload=True)
    yield made
    made.kill()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a writable database: ``BO_INVERT_TEST_POSTGRES`` or a server of the tests."""
    given = os.environ.get("BO_INVERT_TEST_POSTGRES")
    if given:
        yield given
    elif postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    else:
        with postgres.server() as url:
            yield url
