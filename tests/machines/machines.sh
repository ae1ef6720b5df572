#!/usr/bin/env bash
# Emulated machines on one Linux box: each has its own network, process, mount, host-name and IPC namespaces, its own
# /root, /tmp/ray and /dev/shm, and runs sshd. A bridge in a namespace of its own joins them, so nothing is added to the
# machine's own network, and nothing gets out of it.
#
#   LAB=DIR VENV=DIR machines.sh up N          cli (10.77.0.1) and n1..nN (10.77.0.11 ...)
#   ...                          exec NAME CMD ...    run CMD inside a machine
#   ...                          kill NAME            it dies at once, as on power loss
#   ...                          boot NAME            it comes back with the same address
#   ...                          cut NAME | mend NAME its network link goes down | up again
#   ...                          down                 remove everything
#
# LAB holds state and throwaway keys (LAB/ssh/id logs in as root anywhere); VENV is the virtual environment of the machines;
# all other paths are shared by them, as NFS would be. Needs root, iproute2, util-linux, openssh-server, rsync.
set -euo pipefail
: "${LAB:?a directory for state}" "${VENV:?the virtual environment of the machines}"
NET=10.77.0
LAB=$(realpath -m "$LAB") VENV=$(realpath -s "$VENV") # not through a link: the link is what makes it an environment
BASE=$("$VENV/bin/python" -c 'import sys; print(sys.base_prefix)')
PREFIX=fx$(cksum <<<"$LAB" | cut -c1-4) # of this LAB: two of them do not meet
address() { case $1 in cli) echo $NET.1 ;; *) echo $NET.$((10 + ${1#n})) ;; esac }

make_machine() {
  local n=$1 ns=${PREFIX}_$1 dir=$LAB/$1 child="" parent
  mkdir -p "$dir"/{home/.ssh,ray,ssh,tmp}
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  ip link add name "v$n" netns "$ns" type veth peer name "p$n" netns "${PREFIX}_bridge"
  ip -n "$ns" addr add "$(address "$n")/24" dev "v$n"
  ip -n "$ns" link set "v$n" up
  ip -n "${PREFIX}_bridge" link set "p$n" master br0 up
  # shellcheck disable=SC2016  # $PATH is the machine's
  printf 'export PATH=%s/bin:$PATH RAY_USAGE_STATS_ENABLED=0\n' "$VENV" | tee "$dir/home/.bashrc" >"$dir/home/.profile"
  cat >"$dir/init.sh" <<INIT
mount --make-rprivate /
base=$BASE; case \$base in /root/*) mkdir -p "$dir/home/\${base#/root/}"; mount --bind "\$base" "$dir/home/\${base#/root/}" ;; esac
mount --rbind "$dir/home" /root
mkdir -p /tmp/ray; mount --bind "$dir/ray" /tmp/ray
# where \`ray up\` keeps open connections, by the user's name: shared, it would talk to another lab's machines
ssh=/tmp/ray_ssh_\$(printf root | sha256sum | cut -c1-10); mkdir -p "\$ssh"; mount --bind "$dir/ssh" "\$ssh"
mount -t tmpfs -o size=2g tmpfs /dev/shm; mount -t tmpfs tmpfs /run; mkdir -p /run/sshd
hostname $n; cd /root; export HOME=/root
[ $n = cli ] || /usr/sbin/sshd -f "$LAB/sshd_config" -E "$dir/sshd.log"
trap 'exit 0' TERM
while :; do sleep 3600 & wait \$!; done       # process 1 of the machine: reaps orphans
INIT
  setsid ip netns exec "$ns" unshare --mount --pid --uts --ipc --fork --mount-proc --kill-child \
    bash "$dir/init.sh" >"$dir/init.log" 2>&1 </dev/null &
  for _ in $(seq 100); do
    parent=$(pgrep -f "unshare --mount .* $dir/init.sh" | head -n 1 || true)
    [ -n "$parent" ] && child=$(pgrep -P "$parent" | head -n 1 || true) && [ -n "$child" ] && break
    sleep 0.05
  done
  [ -n "$child" ] || { echo "machine $n did not start: $(tail -n 2 "$dir/init.log")" >&2; exit 1; }
  echo "$child" >"$dir/pid"
  for _ in $(seq 100); do
    [ "$n" = cli ] && break
    ip netns exec "$ns" ss -Hltn 'sport = :22' | grep -q . && break
    sleep 0.05
  done
}

command=${1:-help}
shift || true
case $command in
  up)
    mkdir -p "$LAB/ssh"
    for key in id host; do [ -f "$LAB/ssh/$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$LAB/ssh/$key"; done
    printf '%s\n' 'Port 22' "HostKey $LAB/ssh/host" "AuthorizedKeysFile $LAB/ssh/id.pub" 'StrictModes no' 'UsePAM no' \
      'PermitRootLogin prohibit-password' 'PasswordAuthentication no' 'PidFile none' 'UseDNS no' 'MaxStartups 50' \
      >"$LAB/sshd_config"
    ip netns add "${PREFIX}_bridge"
    ip -n "${PREFIX}_bridge" link add br0 type bridge
    ip -n "${PREFIX}_bridge" link set br0 up
    make_machine cli
    for i in $(seq "$1"); do make_machine "n$i"; done
    ;;
  exec)
    machine=$1
    shift
    # `ray up` leaves what it found out about a cluster file in the temporary folder, for the next one with the same text
    [ "$machine" = cli ] && EXTRA_ENV="TMPDIR=$LAB/cli/tmp ${EXTRA_ENV:-}"
    # shellcheck disable=SC2086  # EXTRA_ENV holds several assignments
    exec nsenter -t "$(cat "$LAB/$machine/pid")" -n -p -m -u -i env -i HOME=/root USER=root LANG=C.UTF-8 TERM=xterm \
      PATH="$VENV/bin:/usr/sbin:/usr/bin:/sbin:/bin" RAY_USAGE_STATS_ENABLED=0 ${EXTRA_ENV:-} "$@"
    ;;
  kill) kill -9 "$(cat "$LAB/$1/pid")" ;;
  boot)
    ip netns del "${PREFIX}_$1" 2>/dev/null || true
    sleep 0.3
    make_machine "$1"
    ;;
  cut) ip -n "${PREFIX}_bridge" link set "p$1" down ;;
  mend) ip -n "${PREFIX}_bridge" link set "p$1" up ;;
  down)
    for f in "$LAB"/*/pid; do
      [ -f "$f" ] && { kill -9 "$(cat "$f")" 2>/dev/null || true; rm -f "$f"; }
    done
    for ns in $(ip netns list | awk '{print $1}' | grep -xE "${PREFIX}_(bridge|cli|n[0-9]+)" || true); do
      ip netns del "$ns"
    done
    ;;
  *) sed -n '2,16p' "$0" ;;
esac
