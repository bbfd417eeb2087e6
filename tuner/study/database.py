"""SQL databases that studies are kept in, by URL."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tuner.errors import InvalidInput
from tuner.study.outage import Away

_ATTEMPTS = 10
# SQLite gives up waiting for another's transaction after 5 s by default.
_LOCKED_S = 60
# A network that swallows all makes a process wait for 15 minutes by default, and its server two
# hours. So libpq is told to take a server for gone that has been silent for so long.
_SILENT_S = 30
_NOTICE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 1000 * _SILENT_S,
}


def open_database(url: str, *, must_exist: bool = False) -> RDBStorage:
    """Open an SQL database by URL, e.g. ``postgresql://host/db`` or ``sqlite:///study.db``.

    Raises:
        InvalidInput: the URL is not one, its driver is not installed, or nothing answers there; or
            it `must_exist` and is the path of an SQLite file that does not.
    """
    file = url.removeprefix("sqlite:///")
    if must_exist and file != url and not Path(file).exists():
        raise InvalidInput(f"a database must exist to be read, got {url!r}; check the path")
    try:
        return _opened(url)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        shown, why = _without_passwords(url, error)
        raise InvalidInput(
            f"storage must be the URL of a database that answers, got {shown} ({why}); "
            "use e.g. sqlite:///study.db, or leave it out for a file beside the experiment"
        ) from error


def _opened(url: str) -> RDBStorage:
    """Open a database, which others may do for the first time at this moment."""
    options = _options(make_url(url))
    for _ in range(_ATTEMPTS - 1):
        try:
            return _Database(url, engine_kwargs=options)
        except SQLAlchemyError as error:
            # Two that make the tables at the same time get in each other's way.
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(random.random() / 4)
    return _Database(url, engine_kwargs=options)


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _LOCKED_S}}
    # A server may have closed a connection that was idle.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        options["pool_events"] = [(_let_go, "connect")]
        if url.get_driver_name().startswith("psycopg"):
            given = {key: value for key, value in _NOTICE.items() if key not in url.query}
            options["connect_args"] = given
    return options


def _let_go(connection: Any, _: Any) -> None:
    """Have PostgreSQL undo what a process had begun that it cannot hear any more, and its locks."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_SILENT_S}s'")
    connection.commit()


class _Database(RDBStorage):
    """Leaves no connection behind when it cannot be opened."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        try:
            super().__init__(url, engine_kwargs)
        except Exception:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise


def does_not_answer(away: Away) -> InvalidInput:
    """Return what is said where nobody waits for a database that has gone away."""
    return InvalidInput(
        f"storage must be a database that answers, it has just gone away ({away.why}); try again"
    )


def close_database(storage: BaseStorage) -> None:
    """Close the connections of a storage that has any."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _without_passwords(url: str, error: Exception) -> tuple[str, str]:
    """Return the URL and the first line of what went wrong, as they may be shown."""
    why = next(iter(str(error).strip().splitlines()), type(error).__name__)
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        secret = "@" in url or "?" in url
        return ("the given URL", type(error).__name__) if secret else (repr(url), why)
    hidden = [key for key in parsed.query if "pass" in key.lower()]
    for part in (parsed.password, *(parsed.query[key] for key in hidden)):
        if part:
            why = why.replace(str(part), "***")
    shown = parsed.difference_update_query(hidden).render_as_string(hide_password=True)
    return repr(shown), why
