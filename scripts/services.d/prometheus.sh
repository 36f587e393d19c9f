# shellcheck shell=bash disable=SC2154
# A Prometheus on loopback with the rules of packaging/; read by scripts/services.
# It scrapes what *.json files in its folder of targets name, every second.

PROMETHEUS_DIR=$STATE/prometheus

prometheus_lacks() {
    command -v prometheus >/dev/null && command -v promtool >/dev/null ||
        echo "prometheus is not installed (apt-get install prometheus)"
}

prometheus_url() { echo "http://127.0.0.1:$(cat "$PROMETHEUS_DIR/port" 2>/dev/null)"; }

prometheus_answers() {
    [ -e "$PROMETHEUS_DIR/port" ] && timeout 10 promtool query instant "$(prometheus_url)" 'vector(1)' >/dev/null 2>&1
}

prometheus_exports() {
    export_line PROMETHEUS_URL "$(prometheus_url)"
    export_line PROMETHEUS_TARGETS "$PROMETHEUS_DIR/targets"
}

prometheus_up() {
    local port
    port=$(free_ports 1)
    mkdir -p "$PROMETHEUS_DIR"/{data,targets}
    cat >"$PROMETHEUS_DIR/prometheus.yml" <<YAML
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: ["$ROOT/packaging/prometheus/*.rules.yml"]
scrape_configs:
  - job_name: gpuwarden
    file_sd_configs:
      - files: ["$PROMETHEUS_DIR/targets/*.json"]
        refresh_interval: 1s
YAML
    launch prometheus prometheus --config.file="$PROMETHEUS_DIR/prometheus.yml" --storage.tsdb.path="$PROMETHEUS_DIR/data" \
        --storage.tsdb.retention.time=1d --web.listen-address="127.0.0.1:$port" --log.level=warn
    echo "$port" >"$PROMETHEUS_DIR/port"
}

prometheus_ready() { :; }

prometheus_down() {
    stop prometheus
    rm -rf "$PROMETHEUS_DIR"
}
