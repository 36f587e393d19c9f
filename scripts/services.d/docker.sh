# shellcheck shell=bash disable=SC2154
# A private dockerd with a containerd of its own; read by scripts/services.
# No bridge and no iptables: the machine's network stays as it is, and containers have loopback only.

DOCKER_DIR=$STATE/docker
DOCKER_SOCK=$RUN/docker.sock
DOCKER_IMAGE=gpuwarden-test:busybox

docker_cli() { timeout 30 docker --host "unix://$DOCKER_SOCK" "$@"; }

docker_lacks() {
    if [ "$(id -u)" != 0 ]; then
        echo "not root"
    elif ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
        echo "dockerd is not installed (apt-get install docker.io busybox-static)"
    elif ! static_busybox >/dev/null; then
        echo "no static busybox for the test image (apt-get install busybox-static)"
    fi
}

docker_answers() { docker_cli version >/dev/null 2>&1; }

docker_exports() { export_line DOCKER_HOST "unix://$DOCKER_SOCK"; }

docker_up() {
    mkdir -p "$DOCKER_DIR" "$RUN/docker"
    # What stood before is not ours to remove.
    cgroup_mounts | while read -r mount; do [ ! -d "$mount/docker" ] || echo "$mount/docker"; done >"$STATE/docker.groups"
    echo '{}' >"$DOCKER_DIR/daemon.json" # else /etc/docker/daemon.json is read, and may contradict the flags
    # The namespaces keep us apart from a Docker of this machine where a system-wide containerd serves both.
    launch docker dockerd --config-file "$DOCKER_DIR/daemon.json" \
        --host "unix://$DOCKER_SOCK" --data-root "$DOCKER_DIR/data" --exec-root "$RUN/docker" \
        --pidfile "$RUN/docker.pid" --iptables=false --ip6tables=false --ip-masq=false --ip-forward=false \
        --bridge=none --userland-proxy=false --exec-opt native.cgroupdriver=cgroupfs --shutdown-timeout 3 \
        --containerd-namespace "gpuwarden-$$" --containerd-plugins-namespace "gpuwarden-$$-plugins"
}

docker_ready() { busybox_tar | docker_cli import --change 'CMD ["sh"]' - "$DOCKER_IMAGE" >/dev/null; }

docker_down() {
    local ids=() id mount
    if docker_answers; then
        mapfile -t ids < <(docker_cli ps --all --quiet --no-trunc)
        # A frozen process obeys no signal, KILL included, on cgroup v1.
        for id in "${ids[@]}"; do
            docker_cli unpause "$id" >/dev/null 2>&1 || true
        done
        [ "${#ids[@]}" -eq 0 ] || docker_cli rm --force --volumes "${ids[@]}" >/dev/null 2>&1 || true
    fi
    stop docker
    kill_by_argument "$RUN/docker" # shims outlive a daemon that was killed
    unmount_below "$DOCKER_DIR/" "$RUN/docker"
    if [ -e "$STATE/docker.groups" ]; then
        cgroup_mounts | while read -r mount; do
            for id in "${ids[@]}"; do
                [ ! -d "$mount/docker/$id" ] || find "$mount/docker/$id" -depth -type d -exec rmdir {} \; 2>/dev/null || true
            done
            grep -qxF "$mount/docker" "$STATE/docker.groups" || rmdir "$mount/docker" 2>/dev/null || true
        done
    fi
    rm -rf "$DOCKER_DIR" "$RUN/docker" "$RUN/docker.sock" "$RUN/docker.pid" "$STATE/docker.groups"
}
