# shellcheck shell=bash disable=SC2154
# A private Slurm of one node on loopback, with a munged of its own; read by scripts/services.

SLURM_DIR=$STATE/slurm
# Slurm names its control groups after the node: one name a clone tells ours from others'.
SLURM_NODE=gw$(printf %s "$ROOT" | sha256sum | cut -c1-8)

slurm_lacks() {
    local program
    if [ "$(id -u)" != 0 ]; then
        echo "not root"
        return
    fi
    for program in slurmctld slurmd scontrol munged; do
        command -v "$program" >/dev/null || {
            echo "$program is not installed (apt-get install slurmctld slurmd slurm-client munge)"
            return
        }
    done
}

slurm_answers() {
    [ -e "$SLURM_DIR/slurm.conf" ] &&
        SLURM_CONF=$SLURM_DIR/slurm.conf timeout 10 sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed|allocated)$'
}

slurm_exports() { export_line SLURM_CONF "$SLURM_DIR/slurm.conf"; }

slurm_up() {
    local host ports proctrack=proctrack/linuxproc run=$RUN/slurm
    host=$(hostname -s)
    read -r -a ports <<<"$(free_ports 2)"
    mkdir -p "$SLURM_DIR"/{state,spool} "$run"
    # With the freezer controller of cgroup v1 jobs get real groups, /slurm_NODE/uid_N/job_N/step_N; Slurm 22.05 wants
    # systemd for the same on v2, and then tracks by parent process here.
    [ ! -d /sys/fs/cgroup/freezer ] || proctrack=proctrack/cgroup
    # 'disabled' exists only from 23.02; with proctrack/linuxproc no groups appear.
    echo CgroupPlugin=cgroup/v1 >"$SLURM_DIR/cgroup.conf"
    cat >"$SLURM_DIR/slurm.conf" <<CONF
ClusterName=gpuwarden
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$run/munge.sock
CredType=cred/munge
StateSaveLocation=$SLURM_DIR/state
SlurmdSpoolDir=$SLURM_DIR/spool
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd.pid
ProctrackType=$proctrack
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1
SlurmdParameters=config_overrides
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=$SLURM_NODE NodeHostname=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes=$SLURM_NODE Default=YES MaxTime=10 State=UP
CONF
    (umask 077 && head -c 1024 /dev/urandom >"$run/munge.key")
    launch munged munged --force --foreground --key-file="$run/munge.key" --socket="$run/munge.sock" \
        --pid-file="$run/munged.pid" --log-file="$STATE/munged.log" --seed-file="$run/munge.seed"
    wait_until 10 test -S "$run/munge.sock" || return 1
    launch slurm env SLURM_CONF="$SLURM_DIR/slurm.conf" slurmctld -D -f "$SLURM_DIR/slurm.conf"
    launch slurmd env SLURM_CONF="$SLURM_DIR/slurm.conf" slurmd -D -N "$SLURM_NODE" -f "$SLURM_DIR/slurm.conf"
}

slurm_ready() { :; }

slurm_idle() { [ -z "$(SLURM_CONF=$SLURM_DIR/slurm.conf timeout 10 squeue --noheader 2>/dev/null)" ]; }

slurm_no_groups() { # kill what jobs left behind, then remove their groups
    local top=/sys/fs/cgroup/freezer/slurm_$SLURM_NODE pid
    [ -d "$top" ] || return 0
    find "$top" -name freezer.state -exec sh -c 'echo THAWED > "$1"' sh {} \; 2>/dev/null || true
    find "$top" -name cgroup.procs -exec cat {} + 2>/dev/null | while read -r pid; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    find "$top" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ ! -d "$top" ]
}

slurm_down() {
    if alive slurm; then
        SLURM_CONF=$SLURM_DIR/slurm.conf timeout 10 scancel --user root >/dev/null 2>&1 || true
        wait_until 10 slurm_idle || say "slurm: jobs do not end; killing them"
    fi
    stop slurmd
    stop slurm
    stop munged
    wait_until 10 slurm_no_groups || say "slurm: its control groups cannot be removed"
    rm -rf "$SLURM_DIR" "$RUN/slurm"
}
