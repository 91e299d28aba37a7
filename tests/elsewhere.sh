#!/usr/bin/env bash
# `make test-elsewhere`: the committed files in a folder whose name has a space and an umlaut, no rights of root, no torch, tests
# in random order, another hash seed, a time zone of 12:45 and summer time, and the locale C.
set -euo pipefail
cd "$(dirname "$0")/.."
elsewhere=$(mktemp -d "${TMPDIR:-/tmp}/im grec ü.XXXX")
trap 'rm -rf "$elsewhere"' EXIT
git clone --quiet --no-hardlinks . "$elsewhere/imgrec"
mkdir "$elsewhere/home"
python=$(command -v "${PYTHON:-python3}")
as_user=()
if [ "$(id -u)" = 0 ]; then
    as_user=(setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups)
    if "${as_user[@]}" "$python" --version >&/dev/null; then
        chown -R nobody "$elsewhere"
    else  # this Python lies in root's own folder: root without its privileges
        as_user=(setpriv --bounding-set -all --inh-caps -all)
    fi
fi
export HOME="$elsewhere/home" TMPDIR="$elsewhere/home" PYTHONHASHSEED=${PYTHONHASHSEED:-$RANDOM}
export TZ=Pacific/Chatham LANG=C LC_ALL=C
unset XDG_CACHE_HOME XDG_CONFIG_HOME
echo "PYTHONHASHSEED=$PYTHONHASHSEED"
"${as_user[@]}" make -C "$elsewhere/imgrec" test-base ENV=.venv BESIDE=pytest-randomly TESTS="${1:-}" PYTHON="$python"
