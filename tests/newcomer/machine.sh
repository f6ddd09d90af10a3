#!/usr/bin/env bash
# The first process of new namespaces: makes what it may change its own, and becomes systemd. See run.sh.
set -euo pipefail
dir="$1" systemd="$2"
mount --make-rprivate /
mkdir "$dir/layers"
mount -t tmpfs layers "$dir/layers"
for place in etc usr/local var srv; do
    mkdir -p "$dir/layers/$place/upper" "$dir/layers/$place/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$dir/layers/$place/upper,workdir=$dir/layers/$place/work" "/$place"
done
mount -t proc proc /proc
mount -t tmpfs run /run
while umount -l /sys/fs/cgroup 2>/dev/null; do :; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# Nothing of the real machine is started: no device manager, no journal, no mounts.
rm -rf /etc/systemd/system
mkdir -p /etc/systemd/system
units=/lib/systemd/system
for unit in "$units"/sysinit.target.wants/* "$units"/sockets.target.wants/* "$units"/local-fs.target.wants/* \
    systemd-udevd.service systemd-logind.service systemd-remount-fs.service getty.target; do
    ln -sf /dev/null "/etc/systemd/system/${unit##*/}"
done
cat >/etc/systemd/system/person.service <<UNIT
[Unit]
Requires=sysinit.target
After=sysinit.target basic.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=/bin/bash $dir/person.sh $dir
StandardOutput=file:$dir/person.log
StandardError=inherit
TimeoutStartSec=150
UNIT
printf '[Unit]\nRequires=person.service\n' >/etc/systemd/system/person.target
# systemd's own word for: I am not alone on this machine.
exec env -i container=newcomer PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    "$systemd" --system --unit=person.target --show-status=no --log-target=console --log-level=warning
