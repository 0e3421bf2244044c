"""Entry point of `python -m llmendpoint_simulator`."""

import sys

from llmendpoint_simulator.main import main

if __name__ == "__main__":
    sys.exit(main())
