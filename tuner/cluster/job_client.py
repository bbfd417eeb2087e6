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
TUNING = "tuning"  # the kind of a job that runs a study; others read one, or check the cluster

State = Literal["pending", "running", "stopped", "succeeded", "failed"]


@dataclass(frozen=True)
class Job:
    """One submission of a study.

    Attributes:
        id: the study's name and a number, such as ``fashion@2``.
        study: that it runs; folder: where studies are kept on the cluster; empty for its own.
        exit_code: of its driver, once it has ended by itself.
        message: what Ray says of its state.
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
        """Whether it has ended, in whatever way."""
        return self.state in ("stopped", "succeeded", "failed")


def metadata_of(study: str, folder: str) -> dict[str, str]:
    """Return what is kept with a submission, for `read_job`."""
    return {KIND: TUNING, STUDY: study, FOLDER: folder}


def read_job(details: Any) -> Job | None:
    """Return a tuning job from Ray's `JobDetails`; None for a job that is something else."""
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
    """Return the cluster's token from where Ray keeps it, or None.

    RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ``~/.ray/auth_token``. Ray's own
    client looks there only when RAY_AUTH_MODE says so.
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


_NOT_RAY = "Version check returned 404"  # Ray's words when it is asked for its version in vain
_LIMIT = re.compile(r"timed out.*timeout=([\d.]+)")  # urllib3's


@contextmanager
def said_in_one_line(address: str) -> Iterator[None]:
    """Turn what Ray and the network say of a request into what its user can do about it.

    Raises:
        InvalidInput: in place of an error of the request that is made within.
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
        # Ray's client wraps what requests says of a certificate.
        if "CERTIFICATE_VERIFY_FAILED" in str(_innermost(error)):
            raise InvalidInput(
                f"the cluster's certificate must be trusted here, that of {address} is "
                "not; give its authority's with REQUESTS_CA_BUNDLE=ca.pem"
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
            f"{address} must be given its token, none was found; copy the head's "
            "(`ray get-auth-token` prints it) to ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH"
        )
    return (
        f"{address} must be given its own token, it refused the one found here; copy the head's "
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
    """Return the plainest words for a failed connection: those of the system."""
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
