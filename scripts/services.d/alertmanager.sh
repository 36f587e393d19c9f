# shellcheck shell=bash disable=SC2154
# Two replicas of Alertmanager on loopback that know of each other; read by scripts/services.
# They notify nobody: who wants to see a notification starts one of his own.

ALERTMANAGER_DIR=$STATE/alertmanager

alertmanager_lacks() {
    command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null ||
        echo "prometheus-alertmanager is not installed (apt-get install prometheus-alertmanager)"
}

alertmanager_urls() { # one a line
    local port
    while read -r port; do
        echo "http://127.0.0.1:$port"
    done 2>/dev/null <"$ALERTMANAGER_DIR/ports"
}

alertmanager_answers() {
    local url
    [ -e "$ALERTMANAGER_DIR/ports" ] || return 1
    for url in $(alertmanager_urls); do
        timeout 10 amtool --alertmanager.url="$url" cluster show 2>/dev/null | grep -q 'Status: *ready' || return 1
    done
}

alertmanager_exports() { export_line ALERTMANAGER_URLS "$(alertmanager_urls | paste -sd ' ')"; }

alertmanager_up() {
    local ports number replicas=(alertmanager alertmanager-2)
    read -r -a ports <<<"$(free_ports 4)"
    mkdir -p "$ALERTMANAGER_DIR"
    cat >"$ALERTMANAGER_DIR/alertmanager.yml" <<'YAML'
route:
  receiver: nobody
  group_by: [node]
  group_wait: 1s
  group_interval: 5s
receivers:
  - name: nobody
YAML
    for number in 0 1; do
        launch "${replicas[number]}" prometheus-alertmanager --config.file="$ALERTMANAGER_DIR/alertmanager.yml" \
            --storage.path="$ALERTMANAGER_DIR/${replicas[number]}" --web.listen-address="127.0.0.1:${ports[number]}" \
            --cluster.listen-address="127.0.0.1:${ports[number + 2]}" \
            --cluster.advertise-address="127.0.0.1:${ports[number + 2]}" \
            --cluster.peer="127.0.0.1:${ports[3 - number]}" --cluster.settle-timeout=1s
    done
    printf '%s\n' "${ports[0]}" "${ports[1]}" >"$ALERTMANAGER_DIR/ports"
}

alertmanager_ready() { :; }

alertmanager_down() {
    stop alertmanager
    stop alertmanager-2
    rm -rf "$ALERTMANAGER_DIR"
}
