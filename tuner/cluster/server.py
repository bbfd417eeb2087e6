"""A cluster's job server, as its users see it: jobs, their states and logs."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuner.cluster.auth_token import find_token
from tuner.cluster.entrypoint import ENVIRONMENT
from tuner.cluster.in_one_line import said_in_one_line
from tuner.cluster.job import Job, read_job
from tuner.errors import InvalidInput, unknown_name

_CONNECTS_WITHIN_S = 5.0
# A server that packs a log of many megabytes, or takes in a package, is slow but alive.
_ANSWERS_WITHIN_S = 120.0
_OLDEST_RAY = (2, 60)
_OVERRIDES = "RAY_API_SERVER_ADDRESS"  # to Ray's client, any address that it is given
# What Ray leaves a stopped job before it kills it: time enough to write down what was reported.
_STOPS_WITHIN_S = 30


class JobServer:
    """The job server of a Ray cluster.

    Args:
        address: ``http://HOST:8265`` or ``https://...``; the scheme may be left out.

    Raises:
        InvalidInput: no job server answers there, it refuses the token, or its Ray is too old.
    """

    def __init__(self, address: str) -> None:
        self.address = _checked(address)
        _need_client()
        from ray.job_submission import JobSubmissionClient

        class Client(JobSubmissionClient):
            def _do_request(self, method: str, endpoint: str, **rest: Any) -> Any:
                # Ray's own waits for ever.
                rest.setdefault("timeout", (_CONNECTS_WITHIN_S, _ANSWERS_WITHIN_S))
                return super()._do_request(method, endpoint, **rest)

        for part in ("dashboard.modules", "_private.runtime_env"):
            logging.getLogger(f"ray.{part}").setLevel(logging.WARNING)
        for module in ("dashboard_sdk", "job.sdk"):  # these set a level of their own
            logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.WARNING)
        token = find_token()
        with said_in_one_line(self.address), _no_other(self.address):
            self._client = Client(
                self.address,
                headers={"Authorization": f"Bearer {token}"} if token else None,
                verify=os.environ.get("REQUESTS_CA_BUNDLE") or True,
            )
            version = self._client._server_ray_version or "0"
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_RAY:
            raise InvalidInput(
                f"the cluster must run Ray {_OLDEST_RAY[0]}.{_OLDEST_RAY[1]} or newer, "
                f"{self.address} runs {version}; upgrade it"
            )

    def is_open(self) -> bool:
        """Whether it lists its jobs for someone without a token."""
        import requests

        with said_in_one_line(self.address):
            answer = requests.get(
                f"{self.address}/api/jobs/",
                timeout=_CONNECTS_WITHIN_S,
                verify=os.environ.get("REQUESTS_CA_BUNDLE") or True,
            )
        return answer.ok

    def submit(
        self,
        entrypoint: str,
        *,
        job_id: str | None = None,
        metadata: dict[str, str],
        modules: Sequence[Path],
        working_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Upload what a job needs and start it; return its id.

        Args:
            entrypoint: the shell command, run on the head.
            job_id: the id to give it; Ray makes one up when left out.
            metadata: kept with the job, for everyone with the token to see.
            modules: Python packages that the job's processes on every node can import.
            working_dir: the folder that they start in a copy of.
            environment: variables to set for it, for everyone with the token to see.

        Raises:
            InvalidInput: there is a job of that id, or the cluster refuses.
        """
        runtime_env: dict[str, Any] = {
            "py_modules": [str(module) for module in modules],
            "env_vars": {
                "RAY_JOB_STOP_WAIT_TIME_S": str(_STOPS_WITHIN_S),
                **ENVIRONMENT,
                **(environment or {}),
            },
        }
        if working_dir:
            runtime_env["working_dir"] = str(working_dir)
        with said_in_one_line(self.address):
            given: str = self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=job_id,
                metadata=metadata,
                runtime_env=runtime_env,
            )
        return given

    def jobs(self) -> list[Job]:
        """Return the tuning jobs that the cluster knows of, newest first."""
        with said_in_one_line(self.address):
            details = self._client.list_jobs()
        jobs = [job for detail in details if (job := read_job(detail)) is not None]
        return sorted(jobs, key=lambda job: (job.started is None, job.started), reverse=True)

    def find(self, name: str) -> Job:
        """Return the job of this id, or the newest of the study of this name.

        Raises:
            InvalidInput: there is none; the message lists those there are.
        """
        jobs = self.jobs()
        for job in jobs:
            if name in (job.id, job.study):
                return job
        raise unknown_name(f"job or study on {self.address}", name, {job.id for job in jobs})

    def job(self, job_id: str) -> Job:
        """Return a tuning job by its id, as it stands now."""
        with said_in_one_line(self.address):
            job = read_job(self._client.get_job_info(job_id))
        assert job is not None, "only tuning jobs are asked for by their id"
        return job

    def status(self, job_id: str) -> str:
        """Return Ray's word for the state of any job: PENDING, RUNNING, SUCCEEDED, ..."""
        with said_in_one_line(self.address):
            return str(self._client.get_job_status(job_id).value)

    def logs(self, job_id: str) -> str:
        """Return everything that a job's driver has printed."""
        with said_in_one_line(self.address):
            text: str = self._client.get_job_logs(job_id)
        return text

    async def tail(self, job_id: str) -> Any:
        """Yield what a job's driver has printed, and then what it prints, until it ends.

        Raises:
            ConnectionError: the connection broke.
        """
        import aiohttp

        try:
            async for text in self._client.tail_job_logs(job_id):
                yield text
        except (aiohttp.ClientError, RuntimeError) as error:
            raise ConnectionError(str(error)) from error

    def stop(self, job_id: str) -> None:
        """Ask a job to end; it writes down where it is first."""
        with said_in_one_line(self.address):
            self._client.stop_job(job_id)

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended, and its logs with it."""
        with said_in_one_line(self.address):
            self._client.delete_job(job_id)


def _checked(address: str) -> str:
    """Return an address as a URL without a trailing slash.

    Raises:
        InvalidInput: it is not the URL of a web server.
    """
    url = (address if "://" in address else f"http://{address}").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        shown = url.rpartition("@")[2] if "@" in url else address
        raise InvalidInput(
            f"--address must be that of a job server, http://HOST:8265, got {shown!r}; "
            "`ray start --head` prints it as the dashboard's"
        )
    return url


@contextmanager
def _no_other(address: str) -> Iterator[None]:
    """Have Ray's client take the address that it is given, not that of RAY_ADDRESS in its place."""
    before = os.environ.get(_OVERRIDES)
    os.environ[_OVERRIDES] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_OVERRIDES]
        else:
            os.environ[_OVERRIDES] = before


def _need_client() -> None:
    """Refuse to go on without the packages that Ray's job client needs.

    Raises:
        InvalidInput: they are not installed.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise InvalidInput(
            "a cluster is talked to through Ray's job client, which is not installed; "
            "pip install 'quarterturn[cluster]'"
        )
