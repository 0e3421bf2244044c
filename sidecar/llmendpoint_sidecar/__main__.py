"""Entry point of `python -m llmendpoint_sidecar`."""

import sys

from llmendpoint_sidecar.main import main

if __name__ == "__main__":
    sys.exit(main())
