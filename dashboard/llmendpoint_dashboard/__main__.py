"""Entry point of `python -m llmendpoint_dashboard`."""

import sys

from llmendpoint_dashboard.main import main

if __name__ == "__main__":
    sys.exit(main())
