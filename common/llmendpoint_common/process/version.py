"""Version of the installed distribution. It is built from the file VERSION at the root of the repository."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("llmendpoint")
except PackageNotFoundError:
    VERSION = "unknown"
