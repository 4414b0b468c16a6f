"""What is installed."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Return the version of this package; "unknown" where it is used without having been installed."""
    try:
        return version("mixnn_loader")
    except PackageNotFoundError:
        return "unknown"
