#!/usr/bin/env bash
# `make test-elsewhere`: the committed files in folders whose names have a space or an umlaut, no rights of root, no torch, tests
# in random order, another hash seed, a time zone of 12:45 and summer time, and the locale C.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${PYTHON:-python3}")
elsewhere=$(mktemp -d "${TMPDIR:-/tmp}/im grec.XXXX")
trap 'rm -rf "$elsewhere"' EXIT
# Python below 3.13 cannot be told of a checkout with an umlaut in the locale C (`-e` leaves a .pth file); the tests' files have one.
checkout="$elsewhere/$("$python" -c 'import sys; print("im grec" + " \N{LATIN SMALL LETTER U WITH DIAERESIS}" * (sys.version_info >= (3, 13)))')"
git clone --quiet --no-hardlinks . "$checkout"
mkdir "$elsewhere/hö me"
as_user=()
if [ "$(id -u)" = 0 ]; then
    as_user=(setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups)
    if "${as_user[@]}" "$python" --version >&/dev/null; then
        chown -R nobody "$elsewhere"
    else  # this Python lies in root's own folder: root without its privileges
        as_user=(setpriv --bounding-set -all --inh-caps -all)
    fi
fi
export HOME="$elsewhere/hö me" TMPDIR="$elsewhere/hö me" PYTHONHASHSEED=${PYTHONHASHSEED:-$RANDOM}
export TZ=Pacific/Chatham LANG=C LC_ALL=C
unset XDG_CACHE_HOME XDG_CONFIG_HOME
echo "PYTHONHASHSEED=$PYTHONHASHSEED"
"${as_user[@]}" make -C "$checkout" test-base ENV=.venv BESIDE=pytest-randomly TESTS="${1:-}" PYTHON="$python"
