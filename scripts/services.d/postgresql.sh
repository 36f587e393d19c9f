# shellcheck shell=bash disable=SC2154
# A private PostgreSQL on a unix socket, as the user postgres; read by scripts/services.

# Where the user postgres may go, whoever owns this clone; a socket's address is short there, too.
POSTGRESQL_DIR=/tmp/gpuwarden-postgresql-$(printf %s "$ROOT" | sha256sum | cut -c1-12)

postgresql_bin() { printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1; }

postgresql_lacks() {
    [ -x "$(postgresql_bin)/postgres" ] && id postgres >/dev/null 2>&1 ||
        echo "postgresql is not installed (apt-get install postgresql)"
}

postgresql_answers() {
    [ -e "$POSTGRESQL_DIR/run" ] &&
        timeout 10 "$(postgresql_bin)/pg_isready" --quiet --host "$POSTGRESQL_DIR/run"
}

postgresql_exports() {
    export_line GPUWARDEN_TEST_POSTGRES "postgresql://postgres@/postgres?host=$POSTGRESQL_DIR/run"
}

postgresql_up() {
    local bin
    bin=$(postgresql_bin)
    rm -rf "$POSTGRESQL_DIR"
    mkdir -p "$POSTGRESQL_DIR/run"
    chown -R postgres "$POSTGRESQL_DIR"
    setpriv --reuid postgres --regid postgres --clear-groups "$bin/initdb" --pgdata "$POSTGRESQL_DIR/data" \
        --auth trust --encoding UTF8 --locale C.UTF-8 --no-sync >/dev/null
    launch postgresql setpriv --reuid postgres --regid postgres --clear-groups "$bin/postgres" \
        -D "$POSTGRESQL_DIR/data" -k "$POSTGRESQL_DIR/run" -c listen_addresses=
}

postgresql_ready() { :; }

postgresql_down() {
    stop postgresql
    rm -rf "$POSTGRESQL_DIR"
}
