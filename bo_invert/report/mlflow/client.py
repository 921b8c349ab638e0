"""MLflow client: the calls to MLflow, its size limits, and its errors."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from bo_invert.errors import BoInvertError, MissingExtraError, TrackingError, require_package
from bo_invert.report.mlflow.text import Point, shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH_METRICS, BATCH_PARAMS = 800, 100
"""Entries of one ``log_batch`` request. MLflow's REST API allows 1000 in total, 100 of them
parameters and 100 tags (``mlflow.utils.validation``)."""

_SILENCE = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"


def require_client() -> Callable[[str | None], MlflowClient]:
    """Return the class ``MlflowClient``.

    Raises:
        MissingExtraError: MLflow is not installed.
    """
    with require_package("to_mlflow", "mlflow-skinny", "mlflow"):
        from mlflow import MlflowClient
    made: Callable[[str | None], MlflowClient] = MlflowClient
    return made


def search_runs(client: MlflowClient, experiment: str, tag: str, value: str) -> list[Run]:
    """Return all runs of an experiment with this value of a tag."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{tag}` = '{value}'", max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def log(
    client: MlflowClient,
    run_id: str,
    points: Sequence[Point] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write metrics, parameters and tags in batches; metrics that are not finite are omitted.

    The last batch holds the tags: a tag is present only if all other values are.
    """
    from mlflow.entities import Metric, Param, RunTag

    metrics = [
        Metric(key, value, at, step)
        for values, at, step in points
        for key, value in values.items()
        if math.isfinite(value)
    ]
    pairs = [Param(key, value) for key, value in (params or {}).items()]
    marks = [RunTag(key, value) for key, value in (tags or {}).items()]
    last = max(1, math.ceil(len(metrics) / BATCH_METRICS), math.ceil(len(pairs) / BATCH_PARAMS)) - 1
    for i in range(last + 1):
        client.log_batch(
            run_id,
            metrics[i * BATCH_METRICS : (i + 1) * BATCH_METRICS],
            pairs[i * BATCH_PARAMS : (i + 1) * BATCH_PARAMS],
            marks if i == last else [],
            synchronous=True,
        )


def end_run(client: MlflowClient, run_id: str, status: str, at: int) -> None:
    """Set the final status and the end time of a run without MLflow's message on stdout."""
    given = os.environ.get(_SILENCE)
    os.environ[_SILENCE] = "true"
    try:
        client.set_terminated(run_id, status, at)
    finally:
        if given is None:
            del os.environ[_SILENCE]
        else:
            os.environ[_SILENCE] = given


@contextmanager
def checked_connection(uri: str | None) -> Iterator[None]:
    """Test the connection, then translate every exception of MLflow within the block.

    The test saves the minutes that MLflow spends on retries when no server responds. The
    ``except`` clause is broad because MLflow passes on exceptions of databases and HTTP libraries.

    Raises:
        TrackingError: the server cannot be reached, or MLflow raised an exception.
        MissingExtraError: a package for this kind of address is not installed.
    """
    try:
        _connect(uri)
        yield
    except BoInvertError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"MLflow at {_masked(uri)} needs a package that is not installed: {error}"
        ) from error
    except Exception as error:
        reason = shortened(_masked(f"{type(error).__name__}: {error}".split("\n")[0]))
        raise TrackingError(f"MLflow at {_masked(uri)} refused: {reason}") from error


def _connect(uri: str | None) -> None:
    from mlflow import get_tracking_uri

    parts = urlsplit(uri or get_tracking_uri())
    ports = {"http": 80, "https": 443}
    if parts.scheme not in ports.keys() - getproxies():
        return
    port = parts.port or ports[parts.scheme]
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5.0).close()
    except OSError as error:
        raise TrackingError(
            f"MLflow at {parts.hostname}:{port} cannot be reached: {error}"
        ) from error


def _masked(text: str | None) -> str:
    """Replace user names and passwords in addresses."""
    return "its default address" if text is None else re.sub(r"://[^/@\s]+@", "://***@", text)
