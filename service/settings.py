"""Where things are kept unless the user says otherwise."""

from pathlib import Path

DATABASE_VARIABLE = "MOBILENAS_DATABASE_URL"


def default_database() -> str:
    """An SQLite file in the user's data directory, as an SQLAlchemy URL."""
    from platformdirs import user_data_path

    return f"sqlite:///{user_data_path('mobilenas') / 'mobilenas.db'}"


def default_runs() -> Path:
    """The folder `runs` in the working directory."""
    return Path("runs")
