#!/usr/bin/env bash
# The person at the machine, and the forge with a private repository. See run.sh.
set -euxo pipefail
dir="$1"
forge=/var/tmp/forge
url="ssh://root@localhost:2299$forge/site.git"

commit() { git -C "$forge/work" -c user.name=Ada -c user.email=ada@example.com commit -q --allow-empty -am "$1" && git -C "$forge/work" push -q "$forge/site.git" main; }
# What the page says, with our repository in place of its own.
step() {
    sed "s|git@git.example.com:me/site.git|$url|" "$dir/step$1" >"$dir/step"
    (cd "$dir" && set -e && . "$dir/step")
}
write() {
    for file in "$dir"/file%*"$1"; do
        to="${file##*/file}"
        sed "s|git@git.example.com:me/site.git|$url|" "$file" >"${to//%//}"
    done
}

mkdir -p "$forge" /run/sshd
git init -q --bare -b main "$forge/site.git"
git init -q -b main "$forge/work"
echo one >"$forge/work/index.html" && git -C "$forge/work" add . && commit one
ssh-keygen -q -t ed25519 -N '' -f "$forge/host"

step 1
step 2
cp /etc/gitsocket/site_ed25519.pub "$forge/authorized"
printf '%s\n' 'ListenAddress 127.0.0.1' 'Port 2299' "HostKey $forge/host" "AuthorizedKeysFile $forge/authorized" \
    'PidFile none' 'StrictModes no' 'UsePAM no' 'PermitRootLogin yes' >"$forge/sshd_config"
/usr/sbin/sshd -f "$forge/sshd_config"
write config.ron # step 3

said="$(step 4 2>&1)" && { echo "an unknown host was trusted"; exit 1; }
fingerprint="$(ssh-keygen -l -f "$forge/host.pub" | cut -d' ' -f2)"
[[ "$said" == *"$fingerprint"* ]]
grep -o '\[localhost\]:2299 [^ ]* [A-Za-z0-9+/=]*' <<<"$said" | head -1 >>/etc/gitsocket/known_hosts
step 4

step 5
grep -q '^www-data:' /etc/group || groupadd --system www-data
id www-data >/dev/null 2>&1 || useradd --system -g www-data www-data
step 6 || { ls -la /run/gitsocket; systemctl status --no-pager gitsocket.socket gitsocket.service; exit 1; }
[ "$(cat /srv/site/index.html)" = one ]

# And then it goes on: a push, a reload, a restart, a stop.
echo two >"$forge/work/index.html" && commit two
runuser -u www-data -- gitsocket client site
[ "$(cat /srv/site/index.html)" = two ]
systemctl reload gitsocket.service
systemctl restart gitsocket.service
runuser -u www-data -- gitsocket client site

# As packaging/README.md says: a key that only root can read.
chown root:root /etc/gitsocket/site_ed25519 && chmod 600 /etc/gitsocket/site_ed25519
sed -i 's|key: "/etc/gitsocket/site_ed25519"|key: "$CREDENTIALS_DIRECTORY/site_ed25519"|' /etc/gitsocket/config.ron
mkdir /etc/systemd/system/gitsocket.service.d
printf '[Service]\nLoadCredential=site_ed25519:/etc/gitsocket/site_ed25519\n' >/etc/systemd/system/gitsocket.service.d/key.conf
systemctl daemon-reload
systemctl restart gitsocket.service
echo three >"$forge/work/index.html" && commit three
gitsocket client site
[ "$(cat /srv/site/index.html)" = three ]

# A reload begins with a check, by the user of the unit and with its credentials; what cannot be used fails it there.
systemctl reload gitsocket.service
cp /etc/gitsocket/config.ron "$dir/config.good"
sed -i 's|path: "/srv/site"|path: "/usr/site"|' /etc/gitsocket/config.ron
systemctl reload gitsocket.service && { echo "a target that cannot be written was not found"; exit 1; }
systemctl is-active gitsocket.service
gitsocket client site
gitsocket healthcheck | grep refused && { echo "the daemon was to hear nothing of it"; exit 1; }
cp "$dir/config.good" /etc/gitsocket/config.ron
systemctl reload gitsocket.service

# docs/recipes.md: a service is restarted by a hook.
for file in "$dir"/recipe%*; do
    to="${file##*/recipe}"
    mkdir -p "$(dirname "${to//%//}")" && cp "$file" "${to//%//}"
done
printf '[Service]\nType=exec\nExecStart=/bin/sleep infinity\n' >/etc/systemd/system/site.service
systemctl daemon-reload
systemctl start site.service
main() { systemctl show -p MainPID --value site.service; }
restarts() { # a deploy that ends with the hook of the way $1 restarts the service
    sed "/path: \"\/srv\/site\",/r $dir/trigger-$1" "$dir/config.good" >/etc/gitsocket/config.ron
    systemctl reload gitsocket.service
    before="$(main)"
    echo "$2" >"$forge/work/index.html" && commit "$2"
    gitsocket client site
    restarted
}
restarted() { timeout 30 bash -c "until after=\"\$(systemctl show -p MainPID --value site.service)\" && [ \$after -gt 0 ] && [ \$after != $before ]; do sleep 0.1; done"; }
sed "/path: \"\/srv\/site\",/r $dir/trigger-path" "$dir/config.good" >/etc/gitsocket/config.ron
# A reload takes a moment, and the page is typed at once.
systemctl reload gitsocket.service
before="$(main)"
# First by hand, then by the hook.
. <(sed '/ touch /q' "$dir/way-path")
restarted
before="$(main)"
. <(sed '1,/ touch /d' "$dir/way-path")
restarted
restarts path four
# The file stays, and is no dirt.
[ -e /srv/site/.restart ]
runuser -u www-data -- gitsocket client site | grep 'up-to-date .*[0-9a-f]$'
# The machine begins without a bus.
rm -f /etc/systemd/system/dbus.socket && systemctl daemon-reload
if [ -x /usr/lib/polkit-1/polkitd ] && systemctl start dbus.socket dbus.service polkit.service; then
    systemctl disable --now site-restart.path
    before="$(main)"
    . <(head -1 "$dir/way-polkit")
    [ "$(main)" != "$before" ]
    . <(tail -1 "$dir/way-polkit") && { echo "the rule lets gitsocket stop the service"; exit 1; }
    [ "$(systemctl is-active site.service)" = active ]
    restarts polkit five
else
    echo 'NOT CHECKED: the rule for polkit; polkit is not here'
fi

# docs/releases.md: from in place to releases, with what `check` says is to be typed; the trigger has a git directory apart, and
# hooks are inside of the sandbox.
page() { for i in 1 2 3; do echo "$1"; done >"$forge/work/index.html"; [ "$2" = sick ] && rm -f "$forge/work/healthz" || echo well >"$forge/work/healthz"; git -C "$forge/work" add -A; commit "$1"; }
cat >/etc/systemd/system/site.service <<UNIT
[Service]
Type=exec
WorkingDirectory=/srv/site/current
ExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 8080
UNIT
systemctl daemon-reload
systemctl stop site.service
fields='releases: (), health: (check: Http("http://127.0.0.1:8080/healthz"), within: "5s", every: "100ms", after: "1s"),'
fields+='hooks: [Exec(run: ["/bin/grep", "-q", "1", "index.html"], at: Build), Exec(run: ["/usr/bin/touch", "/srv/site/shared/.restart"])],'
chgrp gitsocket /etc/gitsocket/site_ed25519 && chmod 640 /etc/gitsocket/site_ed25519
sed "s|path: \"/srv/site\",|& $fields|; s|\$CREDENTIALS_DIRECTORY|/etc/gitsocket|; s|^(|( sandbox: BestEffort,|" "$dir/config.good" >/etc/gitsocket/config.ron
page v1 well
said="$(runuser -u gitsocket -- gitsocket check -c /etc/gitsocket/config.ron 2>&1)" && { echo "check lets one layout become the other"; exit 1; }
echo "$said"
systemctl reload gitsocket.service && { echo "a reload lets one layout become the other"; exit 1; }
systemctl stop gitsocket.socket gitsocket.service
. <(grep -o 'type: [^;]*;' <<<"$said" | head -1 | sed 's/^type: //; s/;$//')
install -d -o gitsocket -g gitsocket /srv/site/shared
sed -i 's|/srv/site/.restart|/srv/site/shared/.restart|' /etc/systemd/system/site-restart.path
systemctl daemon-reload
systemctl start gitsocket.socket gitsocket.service
systemctl enable --now site-restart.path
systemctl restart site-restart.path
gitsocket client site
served() { "$python" - <<PY
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8080/index.html").readline().decode().strip())
PY
}
python="$(command -v python3)"
[ "$(served)" = v1 ]
page v12 well && gitsocket client site && [ "$(served)" = v12 ]
# Twice on purpose: it does not build, and it is sick.
page broken well && gitsocket client site && exit 1
[ "$(served)" = v12 ]
status=0; page v13 sick && gitsocket client site || status=$?
[ $status = 7 ] && [ "$(served)" = v12 ]
status=0; gitsocket client site || status=$?
[ $status = 1 ]
page v14 well && gitsocket client site && [ "$(served)" = v14 ]
gitsocket rollback site && [ "$(served)" = v12 ]
gitsocket retry site && [ "$(served)" = v14 ]
gitsocket status site

# docs/web.md: a forge is connected, by a user whom alone the trigger lets in. The site has its usual port.
front="$dir/front"
sed -i 's/:8080/:8099/' /etc/systemd/system/gitsocket-web.socket "$front/deliver"
type_it() { (cd / && bash -eux "$front/$1"); }
type_it step1
cp "$front/web.ron" /etc/gitsocket-web/web.ron
sed -i 's|path: "/srv/site",|& allow: [User("gitsocket-web")],|' /etc/gitsocket/config.ron
type_it step3 || { systemctl status --no-pager gitsocket-web.service gitsocket-web.socket gitsocket-front.socket; exit 1; }
if command -v curl >/dev/null && command -v openssl >/dev/null; then
    page v15 well
    # While the front restarts, too.
    systemctl restart gitsocket-web.service &
    said="$(type_it deliver)"
    wait $!
    [[ "$said" == '{"trigger":"site","run":"'* ]]
    timeout 60 bash -c "until curl -sSf http://127.0.0.1:8080/index.html | grep v15; do sleep 0.1; done"
    runuser -u gitsocket-web -- gitsocket log -s /run/gitsocket/front.sock site | grep 'GitHub push to refs/heads/main'
    # What the daemon has is hidden from it; another secret counts at once.
    sees="/proc/$(systemctl show -p MainPID --value gitsocket-web.service)/root/etc"
    [ -e "$sees/gitsocket-web/web.ron" ] && [ ! -e "$sees/gitsocket/config.ron" ]
    echo other >/etc/gitsocket-web/site.secret
    [[ "$(type_it deliver)" == '{"trigger":"site","run":"'* ]]
    # packaging/README.md: a secret that only root can read.
    mkdir /etc/systemd/system/gitsocket-web.service.d
    printf '[Service]\nLoadCredential=site:/etc/gitsocket-web/site.secret\n' >/etc/systemd/system/gitsocket-web.service.d/site.conf
    chown root:root /etc/gitsocket-web/site.secret && chmod 600 /etc/gitsocket-web/site.secret
    sed -i 's|"/etc/gitsocket-web/site.secret"|"$CREDENTIALS_DIRECTORY/site"|; s|^    webhooks|    metrics: true,\n&|' /etc/gitsocket-web/web.ron
    systemctl daemon-reload
    systemctl restart gitsocket-web.service
    [[ "$(type_it deliver)" == '{"trigger":"site","run":"'* ]]
    timeout 60 bash -c "until curl -sSf http://127.0.0.1:8099/metrics | grep 'gitsocket_runs_running{trigger=\"site\"} 0'; do sleep 1.1; done"
    curl -sSf http://127.0.0.1:8099/metrics | grep 'gitsocket_runs_total{trigger="site",outcome="updated"}'
else
    echo 'NOT CHECKED: deliveries; curl or openssl is not here'
fi
gitsocket client site && { echo "root is not in allow"; exit 1; }
systemctl show -p User -p MemoryCurrent gitsocket-web.service
systemctl stop gitsocket-web.socket gitsocket-web.service gitsocket-front.socket
[ "$(systemctl show -p Result --value gitsocket-web.service)" = success ]

# docs/install.md: the socket moves, to another group. And hooks outside of the sandbox touch the file that they touch in place.
groupadd --system deployers && useradd --system -g deployers deployer
mkdir /etc/systemd/system/gitsocket.socket.d && (cat "$dir/move.conf"; cat "$dir/move.group") >/etc/systemd/system/gitsocket.socket.d/override.conf
cp "$dir/recipe%etc%systemd%system%site-restart.path" /etc/systemd/system/site-restart.path
sed -i 's|/srv/site/shared/.restart|/srv/site/.restart|; s| sandbox: BestEffort,||' /etc/gitsocket/config.ron
systemctl daemon-reload # as `systemctl edit` does
systemctl restart site-restart.path
moved="$(sed -n 's/^ListenStream=\(.\)/\1/p' "$dir/move.conf")"
sed -i "s|/run/gitsocket/gitsocket.sock|$moved|; s| allow: \[[^]]*\],||" /etc/gitsocket/config.ron
. "$dir/move"
page v16 well && gitsocket client site && [ "$(served)" = v16 ]
runuser -u deployer -- gitsocket client -s "$moved" site
if runuser -u www-data -- gitsocket client -s "$moved" site; then exit 1; fi

systemctl show -p Type -p NRestarts -p StatusText -p MemoryCurrent gitsocket.service
systemctl stop gitsocket.socket gitsocket.service
[ "$(systemctl show -p Result --value gitsocket.service)" = success ]
if runuser -u nobody -- gitsocket client -s "$moved" site; then exit 1; fi

# And all of it goes; the lines for what was never set up fail.
bash -x "$dir/remove" || true
for name in gitsocket gitsocket-web; do
    for base in passwd group; do getent $base $name && exit 1; done
done
[ -z "$(find /etc /usr/local /var/lib /run -name '*gitsocket*')" ]
[ -z "$(find /srv/site -nouser -o -nogroup)" ] && [ -e /srv/site/current/index.html ]
echo 'deployed as the page says'
