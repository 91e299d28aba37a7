#!/usr/bin/env bash
# `make demo`: from nothing to pictures. PHOTOS=folder takes a folder of your own.
set -euo pipefail
python=${PYTHON:-python3}
imgrec=${PYTHON:+$(dirname "$PYTHON")/}imgrec
photos=${PHOTOS:-}
if [ -z "$photos" ]; then
    photos=outputs/demo/tiles
    "$python" tests/tiles.py "$photos"
fi
store=store.path=outputs/demo/gallery.sqlite
query=$("$python" tests/tiles.py --first "$photos")
run() {
    printf '$'
    printf ' %q' "$imgrec" "$@"
    printf '\n'
    "$imgrec" "$@"
    echo
}
rm -f outputs/demo/gallery.sqlite*
run ingest "$photos" "$store"
run recommend "$query" "$store"
run visualise "$store"
echo "Look at them:"
find outputs -name recommendations.png -newer outputs/demo/gallery.sqlite -o -name map.png -newer outputs/demo/gallery.sqlite
echo "To go on: source $(dirname "$imgrec")/activate, and imgrec is a command."
