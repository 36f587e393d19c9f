/* The part of the NVML ABI that the simulated library implements.
 *
 * Names, numbers and layouts are those of the vendor's interface; sizes are
 * asserted below, because a client that was compiled against the vendor's
 * header passes these structures by address. A handle is an opaque pointer.
 */
#ifndef ABI_H
#define ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned int nvmlReturn_t;
enum {
  NVML_SUCCESS = 0,
  NVML_ERROR_UNINITIALIZED = 1,
  NVML_ERROR_INVALID_ARGUMENT = 2,
  NVML_ERROR_NOT_SUPPORTED = 3,
  NVML_ERROR_NO_PERMISSION = 4,
  NVML_ERROR_NOT_FOUND = 6,
  NVML_ERROR_INSUFFICIENT_SIZE = 7,
  NVML_ERROR_DRIVER_NOT_LOADED = 9,
  NVML_ERROR_TIMEOUT = 10,
  NVML_ERROR_CORRUPTED_INFOROM = 14,
  NVML_ERROR_GPU_IS_LOST = 15,
  NVML_ERROR_RESET_REQUIRED = 16,
  NVML_ERROR_IN_USE = 19,
  NVML_ERROR_MEMORY = 20,
  NVML_ERROR_NO_DATA = 21,
  NVML_ERROR_INSUFFICIENT_RESOURCES = 23,
  NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
  NVML_ERROR_UNKNOWN = 999,
};

typedef struct sim_handle *nvmlDevice_t;
typedef struct sim_instance *nvmlGpuInstance_t;
typedef struct sim_instance *nvmlComputeInstance_t;
typedef struct sim_event_set *nvmlEventSet_t;
typedef struct sim_gpm_sample *nvmlGpmSample_t;

typedef unsigned int u32_t;
typedef unsigned long long u64_t;

#define VERSIONED(type, number) ((u32_t)(sizeof(type) | ((u32_t)(number) << 24)))

typedef struct {
  char bus_id_legacy[16];
  u32_t domain, bus, device, id, subsystem;
  char bus_id[32];
} pci_info_t;
typedef struct {
  char bus_id_legacy[16];
  u32_t domain, bus, device, id, subsystem, r0, r1, r2, r3;
} pci_info_v2_t;
typedef struct {
  u32_t version, domain, bus, device, id, subsystem, base_class, sub_class;
  char bus_id[32];
} pci_info_ext_t;
typedef struct {
  u64_t total, free, used;
} memory_t;
typedef struct {
  u32_t version;
  u64_t total, reserved, free, used;
} memory_v2_t;
typedef struct {
  u64_t total, free, used;
} bar1_t;
typedef struct {
  u32_t gpu, memory;
} utilization_t;
typedef struct {
  u32_t pid;
  u64_t used;
} process_v1_t;
typedef struct {
  u32_t pid;
  u64_t used;
  u32_t gi, ci;
} process_t;
typedef struct {
  u32_t pid;
  u64_t used;
  u32_t gi, ci;
  u64_t protected_used;
} process_detail_t;
typedef struct {
  u32_t version, mode, count;
  process_detail_t *entries;
} process_detail_list_t;
typedef struct {
  u32_t pid;
  u64_t at_us;
  u32_t sm, mem, enc, dec;
} process_sample_t;
typedef struct {
  u64_t at_us;
  u32_t pid, sm, mem, enc, dec, jpg, ofa;
} process_util_t;
typedef struct {
  u32_t version, count;
  u64_t since_us;
  process_util_t *entries;
} process_util_list_t;
typedef struct {
  u32_t version, sensor;
  int celsius;
} temperature_v1_t;
typedef struct {
  u32_t version;
  int celsius;
} margin_temperature_t;
typedef struct {
  u32_t version, fan, rpm;
} fan_speed_rpm_t;
typedef struct {
  u32_t version;
  char branch[80];
} driver_branch_t;
typedef struct {
  u64_t l1, l2, device_memory, registers;
} ecc_counts_t;
typedef struct {
  u32_t version;
  u64_t aggregate_unc_parity, aggregate_unc_secded, aggregate_cor;
  u64_t volatile_unc_parity, volatile_unc_secded, volatile_cor;
  u64_t bucket_l2, bucket_sm, bucket_pcie, bucket_mcu, bucket_other;
  u32_t threshold_exceeded;
} sram_ecc_t;
typedef struct {
  u32_t version, count;
  void *entries;
} sram_unique_t;
typedef struct {
  u32_t max, high, partial, low, none;
} remap_histogram_t;
typedef struct {
  u32_t version, channel, tpc;
} repair_status_t;
typedef struct {
  u32_t version, value;
} versioned_u32_t;
typedef struct {
  u64_t reference_us, violation_ns;
} violation_t;
typedef union {
  double d;
  int si;
  u32_t ui;
  unsigned long ul;
  u64_t ull;
  long long sll;
  unsigned short us;
} value_t;
typedef struct {
  u64_t at_us;
  value_t value;
} sample_t;
typedef struct {
  u32_t field, scope;
  long long at_us, latency_us;
  u32_t type;
  nvmlReturn_t status;
  value_t value;
} field_value_t;
typedef struct {
  nvmlDevice_t device;
  u64_t type, data;
  u32_t gi, ci;
} event_data_t;
typedef struct {
  u32_t gpu, memory;
  u64_t max_bytes, time_ms, started_us;
  u32_t running, reserved[5];
} accounting_stats_t;
typedef struct {
  unsigned char cluster[16];
  nvmlReturn_t status;
  u32_t clique;
  unsigned char state;
} fabric_t;
typedef struct {
  u32_t version;
  unsigned char cluster[16];
  nvmlReturn_t status;
  u32_t clique;
  unsigned char state;
  u32_t health;
} fabric_v2_t;
typedef struct {
  u32_t version;
  unsigned char cluster[16];
  nvmlReturn_t status;
  u32_t clique;
  unsigned char state;
  u32_t health;
  unsigned char summary;
} fabric_v3_t;
typedef struct {
  u64_t protected_kib, unprotected_kib;
} conf_compute_memory_t;
typedef struct {
  u32_t version;
  unsigned char ib_guid[16], chassis[16], slot, tray, host, peer_type, module;
} platform_t;
typedef struct {
  u32_t sm, copy, dec, enc, jpg, ofa, gi_slices, ci_slices;
  u64_t memory_mb;
} attributes_t;
typedef struct {
  u32_t start, size;
} placement_t;
typedef struct {
  nvmlDevice_t device;
  u32_t id, profile;
  placement_t placement;
} gpu_instance_info_t;
typedef struct {
  nvmlDevice_t device;
  nvmlGpuInstance_t gi;
  u32_t id, profile;
  placement_t placement;
} compute_instance_info_t;
typedef struct {
  u32_t id, p2p, slices, instances, sm, copy, dec, enc, jpg, ofa;
  u64_t memory_mb;
} gi_profile_t;
typedef struct {
  u32_t version, id, p2p, slices, instances, sm, copy, dec, enc, jpg, ofa;
  u64_t memory_mb;
  char name[96];
} gi_profile_v2_t;
typedef struct {
  u32_t version, supported;
} gpm_support_t;
typedef struct {
  char *short_name, *long_name, *unit;
} gpm_info_t;
typedef struct {
  u32_t id;
  nvmlReturn_t status;
  double value;
  gpm_info_t info;
} gpm_metric_t;
typedef struct {
  u32_t version, count;
  nvmlGpmSample_t first, second;
  gpm_metric_t metrics[];
} gpm_request_t;
typedef struct {
  const char *cgroup;
  u64_t soft, hard;
} set_limits_t;
typedef struct {
  const char *cgroup;
  u64_t soft, hard, used;
} get_limits_t;
typedef struct {
  u32_t version, type;
  union {
    char text[41];
    unsigned char bytes[16];
  } value;
} uuid_t_;
typedef struct {
  u32_t version;
  void *set;
} system_set_t;
typedef struct {
  u32_t version;
  u64_t types;
  void *set;
} system_register_t;
typedef struct {
  u64_t type;
  u32_t gpu;
} system_event_t;
typedef struct {
  u32_t version, timeout_ms;
  void *set;
  system_event_t *data;
  u32_t size, count;
} system_wait_t;

static_assert(sizeof(pci_info_t) == 68, "layout");
static_assert(sizeof(memory_v2_t) == 40, "layout");
static_assert(sizeof(process_v1_t) == 16, "layout");
static_assert(sizeof(process_t) == 24, "layout");
static_assert(sizeof(process_detail_t) == 32, "layout");
static_assert(sizeof(process_detail_list_t) == 24, "layout");
static_assert(sizeof(process_sample_t) == 32, "layout");
static_assert(sizeof(process_util_t) == 40, "layout");
static_assert(sizeof(process_util_list_t) == 24, "layout");
static_assert(sizeof(temperature_v1_t) == 12, "layout");
static_assert(sizeof(driver_branch_t) == 84, "layout");
static_assert(sizeof(sram_ecc_t) == 104, "layout");
static_assert(sizeof(field_value_t) == 40, "layout");
static_assert(sizeof(event_data_t) == 32, "layout");
static_assert(sizeof(accounting_stats_t) == 56, "layout");
static_assert(sizeof(fabric_t) == 28, "layout");
static_assert(sizeof(fabric_v2_t) == 36, "layout");
static_assert(sizeof(fabric_v3_t) == 40, "layout");
static_assert(sizeof(platform_t) == 44, "layout");
static_assert(sizeof(attributes_t) == 40, "layout");
static_assert(sizeof(gpu_instance_info_t) == 24, "layout");
static_assert(sizeof(compute_instance_info_t) == 32, "layout");
static_assert(sizeof(gi_profile_t) == 48, "layout");
static_assert(sizeof(gi_profile_v2_t) == 152, "layout");
static_assert(sizeof(gpm_metric_t) == 40, "layout");
static_assert(offsetof(gpm_request_t, metrics) == 24, "layout");

#define NVML_API __attribute__((visibility("default")))

#endif
