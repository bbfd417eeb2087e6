"""The client of a Ray cluster's job server: jobs, their states, logs and one-line errors."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tuner.cluster.entrypoint import ENVIRONMENT
from tuner.errors import InvalidInput, unknown_name

KIND, STUDY, FOLDER = "quarterturn", "study", "folder"  # metadata of a submitted job
TUNING = "tuning"  # the kind of jobs that run a study; other jobs read a study

State = Literal["pending", "running", "stopped", "succeeded", "failed"]


@dataclass(frozen=True)
class Job:
    """One submission of a study.

    Attributes:
        id: the study's name and a number, such as ``fashion@2``.
        study: the name of the study.
        folder: the folder of studies on the cluster; empty for the cluster's own.
        state: Ray's state of the job, in lower case.
        started: the time of the start; None before it.
        ended: the time of the end; None before it.
        exit_code: the exit code of the driver; None if it has not ended by itself.
        message: Ray's message about the state.
    """

    id: str
    study: str
    folder: str
    state: State
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    message: str

    @property
    def over(self) -> bool:
        """Whether the job has ended: stopped, succeeded or failed."""
        return self.state in ("stopped", "succeeded", "failed")


def metadata_of(study: str, folder: str) -> dict[str, str]:
    """Return the metadata of a submission, for `read_job`."""
    return {KIND: TUNING, STUDY: study, FOLDER: folder}


def read_job(details: Any) -> Job | None:
    """Return a tuning job from Ray's `JobDetails`; None for a job of another kind."""
    kept = details.metadata or {}
    if kept.get(KIND) != TUNING:
        return None
    state: State = details.status.value.lower()
    return Job(
        id=details.submission_id,
        study=kept[STUDY],
        folder=kept[FOLDER],
        state=state,
        started=_time(details.start_time),
        ended=_time(details.end_time),
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def find_token() -> str | None:
    """Return the cluster's token from Ray's usual places, or None.

    The places are RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, and
    ``~/.ray/auth_token``. Ray's own client reads them only if RAY_AUTH_MODE says so.

    Raises:
        InvalidInput: the file of RAY_AUTH_TOKEN_PATH cannot be read.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.expanduser().read_text().strip() or None
    except OSError as error:
        if named:
            raise InvalidInput(
                f"RAY_AUTH_TOKEN_PATH must name a file that can be read, got {named!r} "
                f"({error.strerror}); copy the head's token there"
            ) from error
        return None


_NOT_RAY = "Version check returned 404"  # Ray's words if the server has no such route
_LIMIT = re.compile(r"timed out.*timeout=([\d.]+)")  # urllib3's


@contextmanager
def said_in_one_line(address: str) -> Iterator[None]:
    """Convert the errors of Ray and of the network to one line with a remedy.

    Raises:
        InvalidInput: a request in the context has failed.
    """
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise InvalidInput(_about_token(address, find_token())) from error
    except requests.exceptions.JSONDecodeError as error:
        raise InvalidInput(_about_answer(address, _NOT_RAY)) from error
    except (requests.exceptions.RequestException, ConnectionError) as error:
        # Ray's client wraps the certificate errors of requests.
        if "CERTIFICATE_VERIFY_FAILED" in str(_innermost(error)):
            raise InvalidInput(
                f"the cluster's certificate must be trusted here, the one of {address} is not; "
                "name the certificate of its authority with REQUESTS_CA_BUNDLE=ca.pem"
            ) from error
        raise InvalidInput(
            f"the cluster's job server must answer, got {address} "
            f"({_innermost(error)}); check the address (http://HEAD:8265) and `ray status` "
            "on the head"
        ) from error
    except RuntimeError as error:
        raise InvalidInput(_about_answer(address, str(error))) from error


def _about_token(address: str, token: str | None) -> str:
    if token is None:
        return (
            f"{address} needs a token, none was found; copy the head's "
            "(`ray get-auth-token` prints it) to ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH"
        )
    return (
        f"{address} needs its own token, it refused the one found here; copy the head's "
        "(`ray get-auth-token` prints it) to ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH"
    )


def _about_answer(address: str, said: str) -> str:
    if _NOT_RAY in said:
        return (
            f"--address must be that of a job server, something else answers at {address}; "
            "`ray start --head` prints it as the dashboard's (port 8265)"
        )
    # Ray appends the server's traceback.
    line = next((line for line in reversed(said.strip().splitlines()) if line.strip(" .")), said)
    return f"{address} must accept the request, it answered: {line.strip()}; see its dashboard"


def _innermost(error: BaseException) -> str:
    """Return the system's message for a failed connection."""
    found: BaseException | None = error
    answered = getattr(error, "response", None)
    words = f"it said {answered.status_code}" if answered is not None else type(error).__name__
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            words = found.strerror
        elif limit := _LIMIT.search(str(found)):
            words = f"no answer within {float(limit[1]):g} s"
        reason = getattr(found, "reason", None) or (found.args[0] if found.args else None)
        found = (
            reason if isinstance(reason, BaseException) else found.__cause__ or found.__context__
        )
    return words


_CONNECTS_WITHIN_S = 5.0
# A server that sends a log of many megabytes, or receives a package, is slow but alive.
_ANSWERS_WITHIN_S = 120.0
_OLDEST_RAY = (2, 60)
_OVERRIDES = "RAY_API_SERVER_ADDRESS"  # in Ray's client this variable overrides the given address
# Ray kills a stopped job after this time, in which the job can record all reports.
_STOPS_WITHIN_S = 30


class JobServer:
    """The job server of a Ray cluster.

    Args:
        address: ``http://HOST:8265`` or ``https://...``; the scheme may be left out.

    Raises:
        InvalidInput: no job server answers at the address, it refuses the token, or its Ray is
            too old.
    """

    def __init__(self, address: str) -> None:
        self.address = _checked(address)
        _need_client()
        from ray.job_submission import JobSubmissionClient

        class Client(JobSubmissionClient):
            def _do_request(self, method: str, endpoint: str, **rest: Any) -> Any:
                # By default, Ray's client waits for ever.
                rest.setdefault("timeout", (_CONNECTS_WITHIN_S, _ANSWERS_WITHIN_S))
                return super()._do_request(method, endpoint, **rest)

        for part in ("dashboard.modules", "_private.runtime_env"):
            logging.getLogger(f"ray.{part}").setLevel(logging.WARNING)
        for module in ("dashboard_sdk", "job.sdk"):  # these set their own level
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
        """Whether the server lists its jobs without a token."""
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
        """Upload the files of a job and start it; return its id.

        Args:
            entrypoint: the shell command, which runs on the head.
            job_id: the id of the job; by default Ray chooses one.
            metadata: stored with the job; every client with the token can read it.
            modules: Python packages that the job's processes on every node can import.
            working_dir: the folder to upload; the processes of the job start in a copy of it.
            environment: environment variables; every client with the token can read them.

        Raises:
            InvalidInput: a job with this id exists, or the cluster refuses.
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
        """Return the tuning jobs of the cluster, newest first."""
        with said_in_one_line(self.address):
            details = self._client.list_jobs()
        jobs = [job for detail in details if (job := read_job(detail)) is not None]
        return sorted(jobs, key=lambda job: (job.started is None, job.started), reverse=True)

    def find(self, name: str) -> Job:
        """Return the job with this id, or the newest job of the study with this name.

        Raises:
            InvalidInput: there is no such job; the message lists all jobs.
        """
        jobs = self.jobs()
        for job in jobs:
            if name in (job.id, job.study):
                return job
        raise unknown_name(f"job or study on {self.address}", name, {job.id for job in jobs})

    def job(self, job_id: str) -> Job:
        """Return the current state of a tuning job, by its id."""
        with said_in_one_line(self.address):
            job = read_job(self._client.get_job_info(job_id))
        assert job is not None, "only tuning jobs are asked for by their id"
        return job

    def status(self, job_id: str) -> str:
        """Return Ray's name for the state of any job: PENDING, RUNNING, SUCCEEDED, ..."""
        with said_in_one_line(self.address):
            return str(self._client.get_job_status(job_id).value)

    def logs(self, job_id: str) -> str:
        """Return the whole output of a job's driver."""
        with said_in_one_line(self.address):
            text: str = self._client.get_job_logs(job_id)
        return text

    async def tail(self, job_id: str) -> Any:
        """Yield the whole output of a job's driver, in pieces, until the job ends.

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
        """Ask a job to end; it records the state of its study first."""
        with said_in_one_line(self.address):
            self._client.stop_job(job_id)

    def delete(self, job_id: str) -> None:
        """Delete an ended job and its logs."""
        with said_in_one_line(self.address):
            self._client.delete_job(job_id)


def _checked(address: str) -> str:
    """Return an address as a URL without a trailing slash.

    Raises:
        InvalidInput: the address is not the URL of a web server.
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
    """Make Ray's client use this address, and not the one in RAY_ADDRESS."""
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
    """Check that the packages of Ray's job client are installed.

    Raises:
        InvalidInput: they are not installed.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise InvalidInput(
            "a cluster needs Ray's job client, which is not installed; "
            "pip install 'quarterturn[cluster]'"
        )
