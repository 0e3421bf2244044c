#!/bin/sh
# Installs the command llmendpoint for the current user, on Linux and macOS.
#
#   sh install.sh                    from a clone, or: curl -fsSL URL/install.sh | sh
#   sh install.sh --prefix FOLDER    into another folder than ~/.local
#   sh install.sh --uninstall        remove it again
#
# It creates a virtual environment in PREFIX/share/llmendpoint and a link PREFIX/bin/llmendpoint, and changes nothing else.
# It needs Python 3.11 to 3.14, and uses uv if that is installed. Packages are checked against the hashes in
# requirements/cli.txt. It does not need root.
set -eu

# The version to install without a clone: a tag or branch of the repository.
VERSION=${LLMENDPOINT_VERSION:-main}
REPOSITORY=${LLMENDPOINT_REPOSITORY:-https://github.com/llmendpoint/llmendpoint}

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
# Prints a path as one word of a command, which can be pasted.
word() { case $1 in *[!A-Za-z0-9/._-]*) printf "'%s'" "$1" ;; *) printf '%s' "$1" ;; esac; }
has() { command -v "$1" >/dev/null 2>&1; }

usage() {
  # The comment at the top of this file, without the first line. It is not there if the script comes from a pipe.
  if [ -f "$0" ]; then sed -n '2,/^set/{s/^# \{0,1\}//p;}' "$0"; else say "options: --prefix FOLDER, --uninstall"; fi
}

# Prints the command of a Python that can run llmendpoint.
find_python() {
  for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if has "$python" && "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
      command -v "$python"
      return
    fi
  done
}

# Sets SOURCE to a folder with the source: that of this script, or a new one.
find_source() {
  SOURCE=
  case $0 in
    */*) folder=${0%/*} ;;
    *) folder=. ;;
  esac
  if [ -f "$0" ] && [ -f "$folder/pyproject.toml" ] && [ -f "$folder/requirements/cli.txt" ]; then
    SOURCE=$(cd "$folder" && pwd)
    return
  fi
  has curl || fail "curl is needed to download the source; install it, or run install.sh from a clone of $REPOSITORY"
  has tar || fail "tar is needed to unpack the source; install it, or run install.sh from a clone of $REPOSITORY"
  WORK=$(mktemp -d)
  say "downloading $REPOSITORY, version $VERSION"
  curl -fsSL "$REPOSITORY/archive/$VERSION.tar.gz" -o "$WORK/source.tar.gz" || fail "the download of $REPOSITORY failed"
  mkdir "$WORK/source"
  tar -xzf "$WORK/source.tar.gz" -C "$WORK/source" --strip-components=1
  SOURCE=$WORK/source
}

# Fails before anything is downloaded if the folders cannot be written.
check_access() {
  for folder in "$HOME_FOLDER" "$PREFIX/bin"; do
    existing=$folder
    while [ ! -e "$existing" ]; do existing=$(dirname "$existing"); done
    if [ ! -d "$existing" ] || [ ! -w "$existing" ] || [ ! -x "$existing" ]; then
      fail "$folder cannot be created or written, because you have no write permission for $existing; choose another folder with --prefix FOLDER"
    fi
  done
}

# Lets uv trust the certificate authorities of this machine, as pip and curl do. Its own list has none of a company.
trust_system_certificates() {
  if [ "$(uname)" = Darwin ] || [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || [ -e /etc/ssl/ca-bundle.pem ]; then
    export UV_NATIVE_TLS="${UV_NATIVE_TLS:-true}"
  fi
}

# Creates the virtual environment $1 with the packages and llmendpoint.
create_environment() {
  if has uv; then
    say "using uv"
    trust_system_certificates
    uv venv --quiet --python "$python" "$1"
    VIRTUAL_ENV=$1 uv pip install --quiet --require-hashes -r "$SOURCE/requirements/build.txt"
    VIRTUAL_ENV=$1 uv pip install --quiet --require-hashes -r "$SOURCE/requirements/cli.txt"
    VIRTUAL_ENV=$1 uv pip install --quiet --no-deps --no-build-isolation "$SOURCE"
    return
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "Python has no venv module here. Install it, on Debian and Ubuntu with: sudo apt-get install -y python3-venv"
  "$python" -m venv "$1"
  for requirements in build cli; do
    "$1/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$SOURCE/requirements/$requirements.txt"
  done
  "$1/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation "$SOURCE"
}

# Prints the Python of the stack that `llmendpoint up` has started, if that is the one of another installation.
other_stack() {
  case $(readlink "$LINK") in
    "$HOME_FOLDER"/*) "$(dirname "$(readlink "$LINK")")/python" - "$HOME_FOLDER" 2>/dev/null <<'EOF' || : ;;
import sys
from os.path import dirname, realpath
from llmendpoint_cli.stack.state import read_stack

# Ollama and Prometheus are programs of the machine. The sidecars are always ours.
programs = [program.command[0] for program in read_stack().programs if program.kind == "sidecar"]
if not any(realpath(dirname(program)).startswith(realpath(sys.argv[1]) + "/") for program in programs):
    print(programs[0])
EOF
  esac
}

install() {
  case $(uname -s) in
    Linux | Darwin) ;;
    *) fail "Linux or macOS is needed, and this is $(uname -s)" ;;
  esac
  python=$(find_python)
  [ -n "$python" ] || fail "Python 3.11 to 3.14 is needed, and ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>/dev/null || echo not a Python); name one with PYTHON=FOLDER/python3.12 before sh"
  if [ -e "$LINK" ] && [ ! -L "$LINK" ]; then
    fail "$LINK exists, and is not a link of this installer; remove it, or choose another --prefix"
  fi
  if [ -d "$HOME_FOLDER" ] && [ ! -f "$HOME_FOLDER/.installed" ]; then
    fail "$HOME_FOLDER exists, and was not created by this installer; remove it, or choose another --prefix"
  fi
  if [ -x "$LINK" ] && [ -z "$(other_stack)" ] && "$LINK" status --format json 2>/dev/null | grep -q '"up": true'; then
    fail "llmendpoint is running, and its files would be replaced; end it with: $LINK down"
  fi
  check_access
  find_source
  say "installing into $HOME_FOLDER with $("$python" --version), a minute or two"
  mkdir -p "$HOME_FOLDER" "$PREFIX/bin"
  : >"$HOME_FOLDER/.installed"
  # The environment that works is replaced when the new one is complete. Its programs contain their own path, so it cannot
  # be moved afterwards: each installation has a new folder.
  fresh=$HOME_FOLDER/environment-$(date +%Y%m%d%H%M%S)-$$
  create_environment "$fresh"
  "$fresh/bin/llmendpoint" --version >/dev/null || fail "the installed program does not start"
  ln -sfn "$fresh/bin/llmendpoint" "$LINK"
  for old in "$HOME_FOLDER"/environment-*; do
    [ "$old" = "$fresh" ] || rm -rf "$old"
  done
  fresh=
  say "installed $("$LINK" --version) as $LINK"
  case :$PATH: in
    *":$PREFIX/bin:"*) say "try it: llmendpoint up" ;;
    *) say "try it: $(word "$LINK") up" && say "to leave out the folder: export PATH=\"$PREFIX/bin:\$PATH\" in the profile of your shell" ;;
  esac
}

uninstall() {
  if [ ! -f "$HOME_FOLDER/.installed" ]; then
    fail "there is nothing to remove: $HOME_FOLDER does not exist, or was not created by this installer"
  fi
  other=
  if [ -x "$LINK" ]; then other=$(other_stack); fi
  if [ -n "$other" ]; then
    say "another installation has started what llmendpoint up runs ($other), so it is not ended"
  elif [ -x "$LINK" ]; then
    "$LINK" down || say "the programs of llmendpoint up could not be ended; the files are removed all the same"
  fi
  if [ -L "$LINK" ]; then
    case $(readlink "$LINK") in "$HOME_FOLDER"/*) rm -f "$LINK" ;; esac
  fi
  rm -rf "$HOME_FOLDER"
  say "removed $LINK and $HOME_FOLDER"
  unit=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/llmendpoint.service
  if [ -f "$unit" ] && grep -qF -e "$LINK" -e "$HOME_FOLDER/" "$unit"; then
    say "the unit of llmendpoint up --service would still start it; remove the unit with: systemctl --user disable --now llmendpoint; rm '$unit'; systemctl --user daemon-reload"
  fi
  state=${LLMENDPOINT_STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/llmendpoint}
  if [ -d "$state" ]; then say "logs and results of load tests are still in $state; remove them with: rm -r '$state'"; fi
}

WORK=
fresh=
cleanup() {
  if [ -n "$WORK" ]; then rm -rf "$WORK"; fi
  if [ -n "$fresh" ]; then
    rm -rf "$fresh"
    if [ -L "$LINK" ]; then
      printf 'install.sh: the installation failed, and the earlier one is as it was\n' >&2
    else
      rm -f "$HOME_FOLDER/.installed"
      # Another environment may be there, if only the link of an earlier installation was removed.
      rmdir "$HOME_FOLDER" 2>/dev/null || : >"$HOME_FOLDER/.installed"
      printf 'install.sh: the installation failed, and nothing was installed\n' >&2
    fi
  fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

PREFIX=${PREFIX:-$HOME/.local}
action=install
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) [ $# -gt 1 ] || fail "--prefix needs a folder"; PREFIX=$2; shift ;;
    --prefix=*) PREFIX=${1#--prefix=} ;;
    --uninstall) action=uninstall ;;
    -h | --help) usage; exit 0 ;;
    *) printf 'install.sh: %s is not an option; see --help\n' "$1" >&2; exit 2 ;;
  esac
  shift
done
case $PREFIX in
  /*) ;;
  *) PREFIX=$PWD/$PREFIX ;;
esac
HOME_FOLDER=$PREFIX/share/llmendpoint
LINK=$PREFIX/bin/llmendpoint
$action
