"""Virtual environments of the peers, and the tokenizer that they need."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Changes of the requirements create an environment again.
_STAMP = "requirements.txt"
#: The peers need Python 3.12 at least (inference-perf does).
_PYTHONS = ("python3.12", "python3.13", "python3.14")
_IS_NEW = "import sys; sys.exit(sys.version_info < (3, 12))"


def find_python(given: str | None) -> str:
    """Return an interpreter for the peers. Exits if none is found."""
    for name in [given] if given else [*_PYTHONS, sys.executable]:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", _IS_NEW], capture_output=True, check=False).returncode == 0:
            return path
    sys.exit("the peers need Python 3.12 or newer: install it, or name it with --python")


def environment(folder: Path, peer: str, python: str) -> Path:
    """Create the virtual environment of a peer with its locked requirements, and return its folder of programs."""
    place = folder / peer
    wanted = (ROOT / "requirements" / f"bench-{peer}.txt").read_text()
    stamp = place / _STAMP
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"setting up {place} (once; up to 6 GB for guidellm, which needs PyTorch)", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(place)], check=True)
        locked = str(ROOT / "requirements" / f"bench-{peer}.txt")
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
        programs = place / "bin"
        install = (
            [uv, "pip", "install", "--python", str(programs / "python")] if uv else [str(programs / "pip"), "install"]
        )
        subprocess.run([*install, "--quiet", "--require-hashes", "-r", locked], check=True)
        stamp.write_text(wanted)
    return place / "bin"


def write_tokenizer(folder: Path) -> Path:
    """Write a tokenizer with one token per word, so that no peer downloads one, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[UNK]", "<s>", "</s>", *(f"w{number}" for number in range(2000))]
    special = [
        {"id": number, "content": words[number], "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for number in range(3)
    ]  # fmt: skip
    model = {"type": "WordLevel", "vocab": {word: number for number, word in enumerate(words)}, "unk_token": "[UNK]"}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
                 "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
                 "model": model}  # fmt: skip
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "bos_token": "<s>",
              "eos_token": "</s>", "model_max_length": 100_000,
              "chat_template": "{% for message in messages %}{{ message['content'] }} {% endfor %}"}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
