# shellcheck shell=bash disable=SC2154
# A private containerd that speaks the CRI to a kubelet there is none of; read by scripts/services.
# No CNI: the tests' pods use the host's network, as node-level pods do.

CONTAINERD_DIR=$STATE/containerd
CONTAINERD_SOCK=$RUN/containerd.sock
CONTAINERD_IMAGE=docker.io/library/gpuwarden-test:busybox
CONTAINERD_PAUSE=docker.io/library/gpuwarden-test:pause
# What CRI makes stands in the first, what ctr and nerdctl make in the second.
CONTAINERD_NAMESPACES=(k8s.io default)

containerd_ctr() { timeout 30 ctr --address "$CONTAINERD_SOCK" "$@"; } # [--namespace NAME] command...

containerd_lacks() {
    if [ "$(id -u)" != 0 ]; then
        echo "not root"
    elif ! command -v containerd >/dev/null || ! command -v ctr >/dev/null || ! command -v runc >/dev/null; then
        echo "containerd is not installed (apt-get install containerd runc busybox-static)"
    elif ! static_busybox >/dev/null; then
        echo "no static busybox for the test image (apt-get install busybox-static)"
    fi
}

containerd_answers() { [ -S "$CONTAINERD_SOCK" ] && containerd_ctr version >/dev/null 2>&1; }

containerd_exports() {
    export_line CONTAINERD_ADDRESS "$CONTAINERD_SOCK"
    export_line CONTAINER_RUNTIME_ENDPOINT "unix://$CONTAINERD_SOCK"
}

containerd_up() {
    local name
    mkdir -p "$CONTAINERD_DIR" "$RUN/containerd"
    # What stood before is not ours to remove.
    cgroup_mounts | while read -r mount; do
        for name in kubepods default; do [ ! -d "$mount/$name" ] || echo "$mount/$name"; done
    done >"$STATE/containerd.groups"
    # The native snapshotter copies: slower than an overlay, and at home on every file system. A pod's score and
    # huge pages are left alone, because a root without CAP_SYS_RESOURCE may not set them.
    cat >"$CONTAINERD_DIR/config.toml" <<CONF
version = 2
root = "$CONTAINERD_DIR/root"
state = "$RUN/containerd"
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
address = "$CONTAINERD_SOCK"
[plugins."io.containerd.internal.v1.opt"]
path = "$CONTAINERD_DIR/opt"
[plugins."io.containerd.internal.v1.restart"]
interval = "1s"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$CONTAINERD_PAUSE"
disable_apparmor = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$CONTAINERD_DIR/cni"
conf_dir = "$CONTAINERD_DIR/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
CONF
    launch containerd containerd --config "$CONTAINERD_DIR/config.toml"
}

containerd_image() { # name, command...: a Docker archive of the busybox tar, made without a registry
    python3 - "$@" 3< <(busybox_tar) <<'PY'
import hashlib, io, json, os, sys, tarfile
layer = os.fdopen(3, "rb").read()
digest = "sha256:" + hashlib.sha256(layer).hexdigest()
machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
config = {"architecture": machine, "os": "linux", "config": {"Cmd": sys.argv[2:], "Env": ["PATH=/bin"]},
          "rootfs": {"type": "layers", "diff_ids": [digest]}}
manifest = [{"Config": "config.json", "RepoTags": [sys.argv[1]], "Layers": ["layer.tar"]}]
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
    for name, data in (("manifest.json", json.dumps(manifest).encode()),
                       ("config.json", json.dumps(config).encode()), ("layer.tar", layer)):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
PY
}

containerd_ready() {
    local import=(--namespace k8s.io images import --snapshotter native)
    containerd_image "$CONTAINERD_IMAGE" sh | containerd_ctr "${import[@]}" - >/dev/null &&
        containerd_image "$CONTAINERD_PAUSE" sleep 2147483647 | containerd_ctr "${import[@]}" - >/dev/null
}

containerd_empty() { # namespace: end and remove all that is in it
    local in=(--namespace "$1") id
    containerd_ctr "${in[@]}" tasks list --quiet 2>/dev/null | while read -r id; do
        # A frozen process obeys no signal, KILL included, on cgroup v1.
        containerd_ctr "${in[@]}" tasks resume "$id" >/dev/null 2>&1 || true
        containerd_ctr "${in[@]}" tasks kill --signal SIGKILL --all "$id" >/dev/null 2>&1 || true
        containerd_ctr "${in[@]}" tasks delete --force "$id" >/dev/null 2>&1 || true
    done
    containerd_ctr "${in[@]}" containers list --quiet 2>/dev/null | while read -r id; do
        containerd_ctr "${in[@]}" containers delete "$id" >/dev/null 2>&1 || true
    done
}

containerd_down() {
    local name
    if containerd_answers; then
        for name in "${CONTAINERD_NAMESPACES[@]}"; do containerd_empty "$name"; done
    fi
    stop containerd
    kill_by_argument "$CONTAINERD_SOCK" # shims outlive the daemon
    unmount_below "$CONTAINERD_DIR/" "$RUN/containerd"
    if [ -e "$STATE/containerd.groups" ]; then
        cgroup_mounts | while read -r mount; do
            for name in kubepods default; do
                grep -qxF "$mount/$name" "$STATE/containerd.groups" || [ ! -d "$mount/$name" ] ||
                    find "$mount/$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
            done
        done
    fi
    rm -rf "$CONTAINERD_DIR" "$RUN/containerd" "$CONTAINERD_SOCK" "$CONTAINERD_SOCK.ttrpc" "$STATE/containerd.groups"
}
