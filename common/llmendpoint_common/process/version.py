"""The version of this distribution."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("llmendpoint")
except PackageNotFoundError:
    VERSION = "unknown"
