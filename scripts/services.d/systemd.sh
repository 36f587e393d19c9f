# shellcheck shell=bash disable=SC2154
# A machine with a systemd of its own (scripts/machine), in which this clone and its environment lie where they
# lie here; read by scripts/services. It sees them read-only, and no other tests can reach it.

SYSTEMD_MACHINE=systemd

systemd_lacks() { "$ROOT/scripts/machine" lacks; }

systemd_answers() { # booted to the end; `degraded`: a unit failed, and the machine is up
    alive systemd && case $(timeout 30 "$ROOT/scripts/machine" enter "$SYSTEMD_MACHINE" systemctl is-system-running 2>/dev/null) in
        running | degraded) ;;
        *) return 1 ;;
    esac
}

systemd_exports() { export_line GPUWARDEN_TEST_MACHINE "$SYSTEMD_MACHINE"; }

systemd_up() {
    local python=${GPUWARDEN_VENV:-$ROOT/.venv}/bin/python folder show=(--show "$ROOT")
    # Usually parts of the same file system as the root folder; where they are not, the copy would lack them.
    while read -r folder; do
        show+=(--show "$folder")
    done < <([ ! -x "$python" ] || "$python" -c 'import sys; print(sys.prefix, sys.base_prefix, sep="\n")')
    launch systemd "$ROOT/scripts/machine" boot "${show[@]}" "$SYSTEMD_MACHINE"
}

systemd_ready() { :; }

systemd_down() {
    [ "$(id -u)" = 0 ] || return 0
    "$ROOT/scripts/machine" stop "$SYSTEMD_MACHINE" || say "systemd: not all of it is gone"
    stop systemd # one that had only begun to boot
    "$ROOT/scripts/machine" stop "$SYSTEMD_MACHINE" || say "systemd: not all of it is gone"
}
