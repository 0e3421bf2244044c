"""`install.sh`: installs from a clone, replaces an earlier installation, and removes everything again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.machine.local_stack import NO_OLLAMA, local_stack

ROOT = Path(__file__).parents[2]
#: uv is a package of the development environment.
UV = Path(sys.executable).with_name("uv")


def install(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run install.sh with a prefix, and a home without anything in it."""
    variables = {"HOME": str(folder / "home"), "PATH": os.environ["PATH"], "PYTHON": sys.executable, **environment}
    command = ["sh", str(ROOT / "install.sh"), "--prefix", str(folder / "prefix"), *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=variables, cwd=folder, timeout=300)


@pytest.mark.parametrize(("path", "word"), [("/a/b-1.2", "/a/b-1.2"), ("/my programs", "'/my programs'")])
def test_a_path_in_a_command_to_paste_is_one_word(path: str, word: str) -> None:
    [function] = [line for line in (ROOT / "install.sh").read_text().splitlines() if line.startswith("word() ")]
    done = subprocess.run(
        ["sh", "-c", f'{function}; word "$1"', "sh", path], check=True, capture_output=True, text=True
    )
    assert done.stdout == word


def test_the_script_is_plain_shell() -> None:
    for shell in ("dash", "sh"):
        if shutil.which(shell):
            assert subprocess.run([shell, "-n", ROOT / "install.sh"], check=False).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", ROOT / "install.sh"], check=False).returncode == 0


def test_help_says_what_it_does(tmp_path: Path) -> None:
    done = install(tmp_path, "--help")
    assert done.returncode == 0
    assert "sh install.sh --uninstall" in done.stdout
    assert "set -eu" not in done.stdout


@pytest.mark.parametrize(
    ("words", "environment", "code", "sentence"),
    [
        (["--prefixx"], {}, 2, "--prefixx is not an option; see --help"),
        ([], {"PYTHON": "/bin/false"}, 1, "Python 3.11 to 3.14 is needed"),
        (["--uninstall"], {}, 1, "there is nothing to remove"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, words: list[str], environment: dict[str, str], code: int, sentence: str
) -> None:
    done = install(tmp_path, *words, **environment)
    assert done.returncode == code
    assert sentence in done.stderr
    assert not (tmp_path / "prefix").exists()


def test_a_python_that_was_named_and_is_too_old_is_named_with_its_version(tmp_path: Path) -> None:
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.10.1\n")
    old.chmod(0o755)
    done = install(tmp_path, PYTHON=str(old))
    assert done.returncode == 1
    assert f"Python 3.11 to 3.14 is needed, and {old} is Python 3.10.1; name one with" in done.stderr


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_downloaded(tmp_path: Path) -> None:
    # Also root cannot create folders in a file.
    (tmp_path / "prefix").write_text("")
    done = install(tmp_path)
    assert done.returncode == 1
    assert f"no write permission for {tmp_path / 'prefix'}; choose another folder with --prefix" in done.stderr
    assert "installing" not in done.stdout


def failed_install(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run install.sh without a package index that answers."""
    return install(
        folder, PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:1", PIP_RETRIES="0",
        UV_OFFLINE="1", UV_NO_CONFIG="1", UV_CACHE_DIR=str(folder / "cache"),
    )  # fmt: skip


def test_an_installation_that_fails_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    done = failed_install(tmp_path)
    assert done.returncode != 0
    assert "install.sh: the installation failed, and nothing was installed" in done.stderr
    assert not list((tmp_path / "prefix").rglob("*llmendpoint*"))
    # It is not in the way of another one, and there is nothing to remove.
    assert "there is nothing to remove" in install(tmp_path, "--uninstall").stderr


def test_an_installation_that_fails_keeps_an_earlier_one_without_its_link_removable(tmp_path: Path) -> None:
    folder = tmp_path / "prefix" / "share" / "llmendpoint"
    (folder / "environment-earlier").mkdir(parents=True)
    (folder / ".installed").touch()
    assert failed_install(tmp_path).returncode != 0
    assert (folder / "environment-earlier").is_dir()
    assert install(tmp_path, "--uninstall").returncode == 0
    assert not folder.exists()


def test_files_of_others_are_not_touched(tmp_path: Path) -> None:
    program = tmp_path / "prefix" / "bin" / "llmendpoint"
    program.parent.mkdir(parents=True)
    program.write_text("mine")
    assert "is not a link of this installer" in install(tmp_path).stderr
    program.unlink()
    folder = tmp_path / "prefix" / "share" / "llmendpoint"
    folder.mkdir(parents=True)
    assert "was not created by this installer" in install(tmp_path).stderr
    assert "was not created by this installer" in install(tmp_path, "--uninstall").stderr
    assert folder.is_dir()


def test_a_stack_of_another_installation_is_not_ended(tmp_path: Path) -> None:
    """The installation has the packages of this one. The stack is started with the Python of this one."""
    folder = tmp_path / "prefix" / "share" / "llmendpoint"
    programs = folder / "environment-1" / "bin"
    programs.mkdir(parents=True)
    (folder / ".installed").touch()
    (tmp_path / "prefix" / "bin").mkdir()
    (tmp_path / "prefix" / "bin" / "llmendpoint").symlink_to(programs / "llmendpoint")
    for name, words in (("python", ""), ("llmendpoint", "-m llmendpoint_cli")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (programs / name).chmod(0o755)
    with local_stack(tmp_path / "state") as stack:
        stack.up()
        removed = install(tmp_path, "--uninstall", **stack.environment)
        assert removed.returncode == 0, removed.stdout + removed.stderr
        assert "another installation has started what llmendpoint up runs" in removed.stdout
        assert not folder.exists()
        assert stack.run("status").returncode == 0
        stack.down()


@pytest.mark.parametrize("is_ours", [True, False], ids=["this", "another"])
def test_the_unit_of_an_installation_is_named_when_it_is_removed(tmp_path: Path, is_ours: bool) -> None:
    folder = tmp_path / "prefix" / "share" / "llmendpoint"
    folder.mkdir(parents=True)
    (folder / ".installed").touch()
    unit = tmp_path / "home" / ".config" / "systemd" / "user" / "llmendpoint.service"
    unit.parent.mkdir(parents=True)
    prefix = tmp_path / ("prefix" if is_ours else "elsewhere")
    unit.write_text(f"[Service]\nExecStart={prefix}/bin/llmendpoint up --foreground\n")
    removed = install(tmp_path, "--uninstall")
    assert removed.returncode == 0, removed.stderr
    said = (
        f"remove the unit with: systemctl --user disable --now llmendpoint; rm '{unit}'; systemctl --user daemon-reload"
    )
    assert (said in removed.stdout) == is_ours
    assert unit.is_file()


@pytest.mark.skipif(
    sys.platform == "linux" and not Path("/etc/ssl/certs/ca-certificates.crt").exists(),
    reason="this machine has no certificate authorities",
)
@pytest.mark.parametrize(("chosen", "used"), [({}, "true"), ({"UV_NATIVE_TLS": "false"}, "false")])
def test_uv_trusts_the_certificate_authorities_of_the_machine(
    tmp_path: Path, chosen: dict[str, str], used: str
) -> None:
    """`uv` is a program that writes the variable down, and fails."""
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$UV_NATIVE_TLS" > "{tmp_path}/variable"\nexit 1\n')
    program.chmod(0o755)
    done = install(tmp_path, PATH=f"{program.parent}:{os.environ['PATH']}", **chosen)
    assert "using uv" in done.stdout
    assert (tmp_path / "variable").read_text() == f"{used}\n"


def _can_install() -> bool:
    """Return whether the packages can be downloaded, or are in the cache of uv."""
    if not UV.exists():
        return False
    command = [str(UV), "pip", "install", "--dry-run", "--quiet", "--python", sys.executable, "hatchling"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.alone
@pytest.mark.timeout(400)
def test_it_installs_from_a_clone_and_uninstalls(tmp_path: Path) -> None:
    if not _can_install():
        pytest.skip("uv or a package index is missing")
    cache = subprocess.run([UV, "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()
    path = os.pathsep.join((str(UV.parent), os.environ["PATH"]))
    settings = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_"))}
    settings |= {"PATH": path, "UV_CACHE_DIR": cache}
    done = install(tmp_path, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    program = tmp_path / "prefix" / "bin" / "llmendpoint"
    version = (ROOT / "VERSION").read_text().strip()
    assert f"installed llmendpoint {version} as {program}" in done.stdout
    assert f"try it: {program} up" in done.stdout
    configs = {"XDG_CONFIG_HOME": str(tmp_path / "configs"), "PATH": os.environ["PATH"]}
    subprocess.run([program, "up", "--service"], check=True, capture_output=True, env=configs)
    # An update replaces the environment, and leaves one. This one is the script from a pipe, with a downloaded source.
    archive = tmp_path / "repository" / "archive" / "main.tar.gz"
    archive.parent.mkdir(parents=True)
    subprocess.run(["git", "archive", "--prefix=llmendpoint-main/", "-o", archive, "HEAD"], cwd=ROOT, check=True)
    piped = subprocess.run(
        ["sh", "-s", "--", "--prefix", str(tmp_path / "prefix")], input=(ROOT / "install.sh").read_text(), check=False,
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env={"HOME": str(tmp_path), "PYTHON": sys.executable, **settings,
             "LLMENDPOINT_REPOSITORY": f"file://{tmp_path}/repository"},
    )  # fmt: skip
    assert piped.returncode == 0, piped.stdout + piped.stderr
    assert "downloading file://" in piped.stdout
    assert len(list((tmp_path / "prefix" / "share" / "llmendpoint").glob("environment-*"))) == 1
    unit = (tmp_path / "configs" / "systemd" / "user" / "llmendpoint.service").read_text()
    assert f"ExecStart={program} up --foreground" in unit.splitlines()
    environment = {
        "PATH": os.environ["PATH"],
        "LLMENDPOINT_STATE_DIR": str(tmp_path / "state"),
        "OLLAMA_HOST": NO_OLLAMA,
    }
    run = subprocess.run(
        [program, "up", "--no-prometheus"], check=False, capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rules = next((tmp_path / "prefix").rglob("data/rules/records.yaml"))
    assert "llmendpoint:requests:rate5m" in rules.read_text()
    # An update would replace files that are in use.
    settings["LLMENDPOINT_STATE_DIR"] = str(tmp_path / "state")
    assert "llmendpoint is running, and its files would be replaced" in install(tmp_path, **settings).stderr
    removed = install(tmp_path, "--uninstall", **settings)
    assert removed.returncode == 0, removed.stdout + removed.stderr
    assert "Nothing runs any more." in removed.stdout
    assert f"results of load tests are still in {tmp_path / 'state'}" in removed.stdout
    assert not list((tmp_path / "prefix").rglob("*llmendpoint*"))
