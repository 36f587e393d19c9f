/* Shared state of the simulated driver.
 *
 * The driver process owns one file, DIR/state, and is its only writer. The
 * library maps it read-only, so a getter costs a few loads and no system call.
 * Each device record is guarded by a sequence lock: the writer makes `seq` odd,
 * writes, makes it even; a reader copies and retries when `seq` moved. What is
 * constant after start (identity, limits of the board) is read without it.
 *
 * DIR/counters holds one 64-bit call counter per function, written by every
 * client. It is the only file that a client may write; the driver only ever
 * prints it.
 *
 * DIR/driver.sock   SOCK_SEQPACKET, clients (protocol.h)
 * DIR/control.sock  SOCK_STREAM, JSON lines, owner only (control.c)
 * DIR/kmsg.sock     SOCK_SEQPACKET, simulated kernel log, owner only (kmsg.c)
 */
#ifndef SIMSTATE_H
#define SIMSTATE_H

#include <stdatomic.h>
#include <stdint.h>

#define SIM_MAGIC 0x47575344u /* "GWSD" */
#define SIM_LAYOUT 4u         /* raised with every change of this file */

#define SIM_MAX_DEVICES 16
#define SIM_MAX_PROCS 1024 /* per device; an allocation beyond it is refused */
#define SIM_MAX_MIG 7
#define SIM_MAX_LINKS 18
#define SIM_MAX_SYMBOLS 640
#define SIM_MAX_LIMITS 256
#define SIM_MAX_RETIRED 64
#define SIM_MAX_ACCOUNTING 256
#define SIM_SAMPLES 120
#define SIM_NO_INSTANCE 0xffffffffu

enum sim_proc_kind { SIM_COMPUTE = 1, SIM_GRAPHICS = 2, SIM_MPS = 4 };

struct sim_proc {
  uint32_t pid;
  uint32_t kind; /* sim_proc_kind bits */
  uint64_t bytes;
  uint32_t mig; /* 0: whole device, 1..SIM_MAX_MIG: instance */
  uint32_t connections;
  uint64_t started_us;        /* wall clock */
  uint64_t util_at_us;        /* wall clock of the last utilisation sample */
  uint32_t sm, mem, enc, dec; /* percent */
};

struct sim_mig {
  uint32_t in_use;
  uint32_t gi, ci;
  uint32_t profile; /* GPU instance profile id */
  uint32_t slices, sm_count, placement_start, placement_size;
  uint64_t total, reserved, used;
  double work_us; /* integral of the instance's own activity, for GPM */
  char uuid[96];
  char profile_name[64];
};

struct sim_retired {
  uint64_t address;
  uint64_t at_s;
  uint32_t cause; /* 0 several single-bit errors, 1 double-bit error */
  uint32_t reserved;
};

struct sim_accounting {
  uint32_t pid, running;
  uint32_t gpu_util, mem_util;
  uint64_t max_bytes, time_ms, started_us;
};

struct sim_sample {
  uint64_t at_us;
  uint32_t power_mw, gpu, mem, enc, dec, sm_clock, mem_clock, pad;
};

/* Constant after start. */
struct sim_identity {
  char name[96], uuid[96], serial[32], part_number[80], vbios[32], inforom[16], gsp[64];
  uint32_t pci_domain, pci_bus, pci_device, pci_id, pci_subsystem;
  uint32_t minor, module_id, numa_node, brand, architecture, cc_major, cc_minor;
  uint32_t cores, sm_count, bus_width_bits;
  uint64_t total, reserved, bar1_total;
  uint32_t clock_max[4]; /* graphics, SM, memory, video, MHz */
  uint32_t clock_idle[4];
  uint32_t power_idle_mw, power_min_mw, power_max_mw, power_default_mw;
  int32_t temp_shutdown_c, temp_slowdown_c, temp_mem_max_c, temp_gpu_max_c;
  uint32_t pcie_gen_max, pcie_width_max;
  uint32_t link_count, link_version, link_mbps;
  uint32_t fans;
  uint32_t has_row_remap, has_retired_pages, has_gpm, has_fabric, has_mig, has_mem_temp;
  uint64_t event_mask; /* event types that can be registered */
};

struct sim_device {
  _Atomic uint32_t seq;
  uint32_t lost;
  uint32_t locked_up;
  uint32_t offender_pid;
  struct sim_identity id;
  /* memory */
  uint64_t used; /* bytes held by processes plus `unattributed` */
  uint64_t unattributed;
  uint64_t bar1_used;
  /* load */
  uint32_t gpu_util, mem_util, enc_util, dec_util, jpg_util, ofa_util;
  uint32_t clock[4];
  uint32_t power_mw, power_instant_mw, power_limit_mw, pstate;
  uint32_t power_held_mw, inforom_corrupted; /* 0: held by nobody */
  uint64_t energy_mj;
  int32_t temp_c, mem_temp_c;
  uint32_t fan_percent, pad0;
  uint64_t reasons;
  uint64_t
      reason_ns[6]; /* SW power, sync boost, SW thermal, HW thermal, power brake, HW slowdown */
  double busy_us, sm_us, mem_us; /* integrals of activity, for GPM */
  uint64_t integral_at_us;
  /* PCIe */
  uint32_t pcie_gen, pcie_width, pcie_replays, pcie_replay_rollovers;
  uint64_t pcie_tx_bytes, pcie_rx_bytes;
  uint32_t pcie_tx_kbps, pcie_rx_kbps;
  uint64_t pcie_correctable, pcie_nonfatal, pcie_fatal;
  /* NVLink */
  uint32_t link_up[SIM_MAX_LINKS];
  uint64_t link_errors[SIM_MAX_LINKS][5]; /* replay, recovery, CRC flit, CRC data, ECC */
  uint64_t link_tx_kib[SIM_MAX_LINKS], link_rx_kib[SIM_MAX_LINKS];
  uint32_t fabric_state, fabric_health_mask;
  /* errors */
  uint64_t ecc[2][2][8]; /* [corrected, uncorrected][volatile, aggregate][location] */
  uint32_t sram_threshold_exceeded;
  uint32_t remap_correctable, remap_uncorrectable, remap_pending, remap_failed;
  uint32_t remap_banks[5]; /* max, high, partial, low, none */
  uint32_t retired_count, retired_pending;
  struct sim_retired retired[SIM_MAX_RETIRED];
  uint32_t recovery_action;
  uint32_t repair_channel, repair_tpc, unrepairable;
  /* modes */
  uint32_t ecc_mode, ecc_pending, persistence, compute_mode;
  uint32_t mig_mode, mig_pending, accounting_mode;
  struct sim_mig mig[SIM_MAX_MIG];
  uint32_t proc_count;
  struct sim_proc procs[SIM_MAX_PROCS];
  uint32_t accounting_count;
  struct sim_accounting accounting[SIM_MAX_ACCOUNTING];
  uint32_t sample_next, sample_count;
  struct sim_sample samples[SIM_SAMPLES];
};

/* What one function does instead of its work; index 0..15 device, 16 all or none. */
struct sim_fault {
  _Atomic uint32_t any; /* non-zero: some entry below is set */
  _Atomic uint32_t hang[SIM_MAX_DEVICES + 1];
  _Atomic uint32_t delay_us[SIM_MAX_DEVICES + 1];
  _Atomic uint32_t error[SIM_MAX_DEVICES + 1];
};

struct sim_limit {
  uint32_t in_use, device;
  uint64_t soft, hard, used;
};

struct sim_state {
  uint32_t magic, layout, size, driver_pid;
  _Atomic uint32_t generation;   /* raised by a driver reload */
  _Atomic uint32_t loaded;       /* 0: the driver module is away */
  _Atomic uint64_t heartbeat_ns; /* CLOCK_MONOTONIC, about every 100 ms */
  _Atomic uint32_t limits_generation, fault_generation;
  uint64_t seed, started_ns;
  uint32_t device_count, symbol_count;
  _Atomic uint32_t order[SIM_MAX_DEVICES]; /* NVML index -> record */
  char driver_version[80], nvml_version[80], driver_branch[80];
  int32_t cuda_version;
  uint32_t limit_mode; /* enum sim_limit_mode */
  struct sim_limit limits[SIM_MAX_LIMITS];
  struct sim_fault faults[SIM_MAX_SYMBOLS];
  struct sim_device devices[SIM_MAX_DEVICES];
};

enum sim_limit_mode {
  SIM_LIMITS_ENFORCED,      /* as documented for r615 and later */
  SIM_LIMITS_NOT_SUPPORTED, /* older driver */
  SIM_LIMITS_NO_PERMISSION, /* set refused, whoever asks */
  SIM_LIMITS_NO_EFFECT,     /* set succeeds, reads back as set, nothing is enforced */
  SIM_LIMITS_FORGOTTEN,     /* set succeeds, reads back as unlimited, nothing is enforced */
};

#endif
