"""Record how Ollama's own code, with Go's standard library, reads request bodies and model names.

    python scripts/record_go.py

Needs Go. The version of Ollama is in `tests/support/wire/go_oracle/go.mod`. The bodies are in
`tests/support/wire/go_corpus.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.wire import go_corpus

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        go_corpus.record(go_corpus.build_oracle(Path(folder)))
