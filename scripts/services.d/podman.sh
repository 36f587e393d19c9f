# shellcheck shell=bash disable=SC2154
# Podman with a storage and settings of its own, and its API socket; read by scripts/services.
# No container of this machine's Podman is visible to it.

PODMAN_DIR=$STATE/podman
PODMAN_SOCK=$RUN/podman.sock
PODMAN_IMAGE=localhost/gpuwarden-test:busybox

podman_cli() {
    CONTAINERS_CONF=$PODMAN_DIR/containers.conf CONTAINERS_STORAGE_CONF=$PODMAN_DIR/storage.conf \
        timeout 30 podman "$@"
}

podman_lacks() {
    if [ "$(id -u)" != 0 ]; then
        echo "not root"
    elif ! command -v podman >/dev/null || ! command -v runc >/dev/null; then
        echo "podman is not installed (apt-get install podman runc)"
    elif ! static_busybox >/dev/null; then
        echo "no static busybox for the test image (apt-get install busybox-static)"
    fi
}

podman_answers() { [ -S "$PODMAN_SOCK" ] && alive podman && podman_cli --remote --url "unix://$PODMAN_SOCK" info >/dev/null 2>&1; }

podman_exports() {
    export_line CONTAINERS_CONF "$PODMAN_DIR/containers.conf"
    export_line CONTAINERS_STORAGE_CONF "$PODMAN_DIR/storage.conf"
    export_line PODMAN_HOST "unix://$PODMAN_SOCK"
}

podman_up() {
    mkdir -p "$PODMAN_DIR" "$RUN/podman"
    # crun refuses hosts with a cgroup v2 tree beside the v1 ones; runc knows them all.
    # Podman's own defaults raise both to 1048576, which a root without CAP_SYS_RESOURCE may not do.
    cat >"$PODMAN_DIR/containers.conf" <<CONF
[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
tmp_dir = "$RUN/podman/tmp"
lock_type = "file"
CONF
    cat >"$PODMAN_DIR/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$PODMAN_DIR/storage"
runroot = "$RUN/podman/run"
CONF
    launch podman env CONTAINERS_CONF="$PODMAN_DIR/containers.conf" \
        CONTAINERS_STORAGE_CONF="$PODMAN_DIR/storage.conf" podman system service --time 0 "unix://$PODMAN_SOCK"
}

podman_ready() { busybox_tar | podman_cli import --quiet --change 'CMD ["sh"]' - "$PODMAN_IMAGE" >/dev/null; }

podman_down() {
    if [ -e "$PODMAN_DIR/storage.conf" ]; then
        podman_cli ps --quiet --filter status=paused | while read -r id; do podman_cli unpause "$id" >/dev/null 2>&1 || true; done
        podman_cli rm --all --force --time 0 >/dev/null 2>&1 || true
    fi
    stop podman
    kill_by_argument "$RUN/podman"
    unmount_below "$PODMAN_DIR/" "$RUN/podman"
    # Podman makes this group for all its containers, and leaves it; with somebody's container in it, it stays.
    cgroup_mounts | while read -r mount; do
        [ ! -d "$mount/libpod_parent" ] || find "$mount/libpod_parent" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
    rm -rf "$PODMAN_DIR" "$RUN/podman" "$PODMAN_SOCK"
}
