"""What Ray and the network say of a failed request, in one line that its user can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tuner.cluster.auth_token import find_token
from tuner.errors import InvalidInput

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
