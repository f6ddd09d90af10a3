#!/usr/bin/env bash
# What a newcomer does who has the static binary and the pages: follows docs/install.md, step by step, on a machine of their own;
# then docs/recipes.md, so that a hook restarts a service.
#
# `tests/newcomer/run.sh PROGRAM [PAGE]`. The commands, units and the configuration are taken from the page; nothing else is
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
    block { print > (dir "/file" file) }
    /^# / { sub("^# ", ""); print > (dir "/step" step) }
' "$page"
# From the recipes: the files, and the commands of each way.
awk -v dir="$dir" '
    /^## / { way = "" }
    /^### / { way = tolower($NF); sub("unit", "path", way) }
    /^`\/etc\/.*`:$/ { file = substr($0, 2, length($0) - 3); gsub("/", "%", file) }
    /^```(ini|js)$/ { block = 1; next }
    /^```/ { block = 0; next }
    block { print > (dir "/recipe" file) }
    /^# / && way { sub("^# ", ""); print > (dir "/way-" way) }
' "$here/../../docs/recipes.md"
for way in path polkit; do [ -s "$dir/way-$way" ] || { echo "the recipes have no commands for $way"; exit 1; }; done
for step in 1 2 4 6; do [ -s "$dir/step$step" ] || { echo "$page has no commands in step $step"; exit 1; }; done

# The front: its units, and the commands of packaging/README.md.
mkdir "$dir/front"
cp "$here"/../../packaging/systemd/{gitsocket-web.service,gitsocket-web.socket,gitsocket-front.socket,sysusers.conf} "$dir/front/"
awk '/^## / { inside = ($0 == "## The front") } inside && /^# / { sub("^# ", ""); print }' "$here/../../packaging/README.md" >"$dir/front/commands"
[ -s "$dir/front/commands" ] || { echo "packaging/README.md has no commands for the front"; exit 1; }

# A service that hangs must not hold this for ever.
timeout 180 unshare --pid --fork --mount --cgroup --uts --ipc bash "$dir/machine.sh" "$dir" "$systemd" >"$dir/systemd.log" 2>&1 || true
cat "$dir/person.log" 2>/dev/null || true
if ! grep -qx 'deployed as the page says' "$dir/person.log" 2>/dev/null; then
    echo "== systemd said:"; tail -50 "$dir/systemd.log"
    exit 1
fi
