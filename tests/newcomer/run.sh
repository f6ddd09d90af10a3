#!/usr/bin/env bash
# What a newcomer does who has the static binary, packaging and the pages: follows docs/install.md, step by step, on a machine of
# their own; then docs/recipes.md, so that a hook restarts a service, and docs/web.md, so that a push deploys; and removes it all.
#
# `tests/newcomer/run.sh PROGRAM [PAGE]`. The commands, units and configurations are taken from the pages; nothing else is
# done inside but to be the forge and its people. The machine is a systemd of its own, in new namespaces, whose /etc, /usr/local,
# /var, /srv and /run are layers in memory. Needs root, systemd, overlayfs, sshd and git; says so aloud where one is missing.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
program="$(realpath "$1")"
page="$(realpath "${2:-$here/../../docs/install.md}")"

skip() { echo "SKIPPED: $*"; exit 0; }
[ "$(id -u)" -eq 0 ] || skip "only root can start another systemd"
systemd=/lib/systemd/systemd
for needed in "$systemd" /usr/sbin/sshd; do [ -x "$needed" ] || skip "$needed is not here"; done
for needed in git ssh-keygen runuser unshare; do command -v "$needed" >/dev/null || skip "$needed is not here"; done

dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
unshare --pid --fork --mount --cgroup --uts --ipc sh -euc 'mount -t tmpfs layers "$1"; mkdir "$1/upper" "$1/work"
    mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc' sh "$dir" ||
    skip "namespaces, or overlays in them, are not to be had here"
cp "$program" "$dir/gitsocket"
cp -r "$here/../../packaging" "$dir/"
cp "$here/machine.sh" "$here/person.sh" "$dir/"

# From the page: the commands that root types, step by step, and the files to write.
awk -v dir="$dir" '
    /^## / { inside = ($0 == "## On a server with systemd") }
    !inside { next }
    /^\*\*[0-9]/ { step = substr($0, 3, 1) }
    /^`\/etc\/.*`:$/ { file = substr($0, 2, length($0) - 3); gsub("/", "%", file) }
    /^```ron$/ { file = "%etc%gitsocket%config.ron"; block = 1; next }
    /^```ini$/ { block = 1; next }
    /^```/ { block = 0; next }
    block { print > (dir "/file" file); next }
    /^# / { sub("^# ", ""); print > (dir "/step" step) }
' "$page"
# From the recipes: the files, the lines of the trigger, and the commands of each way.
awk -v dir="$dir" '
    /^## / { way = ($0 == "## Restarting a service") ? "path" : "" }
    /^### By polkit$/ { way = "polkit" }
    /^`\/etc\/.*`:$/ { file = substr($0, 2, length($0) - 3); gsub("/", "%", file) }
    /^```(ini|js)$/ && way { block = dir "/recipe" file; next }
    /^```ron$/ && way { block = dir "/trigger-" way; next }
    /^```/ { block = ""; next }
    block { print > block }
    /^# / && way { sub("^# ", ""); print > (dir "/way-" way) }
' "$here/../../docs/recipes.md"
for way in path polkit; do
    for part in way trigger; do [ -s "$dir/$part-$way" ] || { echo "the recipes have no $part for $way"; exit 1; }; done
done
for step in 1 2 4 5 6; do [ -s "$dir/step$step" ] || { echo "$page has no commands in step $step"; exit 1; }; done
# How the socket is moved.
awk -v dir="$dir" '
    /^## / { inside = ($0 == "## The socket") }
    !inside { next }
    /^```ini$/ { block = 1; next }
    /^```/ { block = 0; next }
    block { print > (dir "/move.conf") }
    /^\*\*To let another group connect\*\*/ { split($0, words, "`"); print words[2] > (dir "/move.group") }
    /^# / { sub("^# ", ""); print > (dir "/move") }
' "$page"
for part in move move.conf move.group; do [ -s "$dir/$part" ] || { echo "$page does not tell how to move the socket"; exit 1; }; done

awk -v to="$dir/remove" '/^## / { inside = ($0 == "## Removing it") } inside && /^# / { sub("^# ", ""); print > to }' "$page"
[ -s "$dir/remove" ] || { echo "$page does not tell how to remove it"; exit 1; }

# The front: the commands and the configuration of docs/web.md; and a delivery.
mkdir "$dir/front"
awk -v dir="$dir/front" '
    /^## / { inside = ($0 == "## Connecting a forge"); step = ""; delivers = ($0 == "## A delivery without a forge") }
    inside && /^\*\*[0-9]/ { step = substr($0, 3, 1) }
    /^```ron$/ && inside { block = 1; next }
    /^```/ { block = 0; next }
    block { print > (dir "/web.ron") }
    /^# / && step { sub("^# ", ""); print > (dir "/step" step) }
    /^\$ / && delivers { sub("^\\$ ", ""); print > (dir "/deliver") }
' "$here/../../docs/web.md"
for part in step1 web.ron step3 step6 deliver; do [ -s "$dir/front/$part" ] || { echo "docs/web.md has no $part"; exit 1; }; done

# A service that hangs must not hold this for ever.
timeout 180 unshare --pid --fork --mount --cgroup --uts --ipc bash "$dir/machine.sh" "$dir" "$systemd" >"$dir/systemd.log" 2>&1 || true
cat "$dir/person.log" 2>/dev/null || true
if ! grep -qx 'deployed as the page says' "$dir/person.log" 2>/dev/null; then
    echo "== systemd said:"; tail -50 "$dir/systemd.log"
    exit 1
fi
