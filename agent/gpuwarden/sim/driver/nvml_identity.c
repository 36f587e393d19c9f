/* Who a device is: names, addresses, firmware, place in the machine, modes. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

#include "nvml_lib.h"

#define MIG (t.dev->mig[t.mig - 1])

NVML_API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, u32_t *out) {
  struct target t;
  nvmlReturn_t r = enter_lost_device(SYM_nvmlDeviceGetIndex, device, &t);
  if (r) return r;
  NEED(out);
  if (t.mig) { /* instances are numbered within their parent */
    *out = t.mig - 1;
    return NVML_SUCCESS;
  }
  int index = index_of(t.record);
  if (index < 0) return NVML_ERROR_UNKNOWN;
  *out = (u32_t)index;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *out, u32_t length) {
  DEVICE(nvmlDeviceGetName);
  NEED(out);
  if (!t.mig) return copy_text(t.dev->id.name, out, length);
  char name[200];
  snprintf(name, sizeof name, "%s MIG %s", t.dev->id.name, MIG.profile_name);
  return copy_text(name, out, length);
}
GET_TEXT(nvmlDeviceGetUUID, t.mig ? MIG.uuid : t.dev->id.uuid)
GET_TEXT(nvmlDeviceGetSerial, t.dev->id.serial)
GET_TEXT(nvmlDeviceGetVbiosVersion, t.dev->id.vbios)
GET_TEXT(nvmlDeviceGetInforomImageVersion, t.dev->id.inforom)
GET_TEXT(nvmlDeviceGetBoardPartNumber, t.dev->id.part_number)

NVML_API nvmlReturn_t nvmlDeviceGetInforomVersion(nvmlDevice_t device, u32_t object, char *out,
                                                  u32_t length) {
  DEVICE(nvmlDeviceGetInforomVersion);
  NEED(out);
  static const char *const versions[] = {"2.1", "6.16", NULL}; /* OEM, ECC; power: none */
  if (object > 3) return NVML_ERROR_INVALID_ARGUMENT;
  if (object > 1) return NVML_ERROR_NOT_SUPPORTED;
  return copy_text(versions[object], out, length);
}
NVML_API nvmlReturn_t nvmlDeviceGetInforomConfigurationChecksum(nvmlDevice_t device, u32_t *out) {
  DEVICE(nvmlDeviceGetInforomConfigurationChecksum);
  NEED(out);
  *out = t.dev->id.pci_id ^ 0x5a5a5a5au;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceValidateInforom(nvmlDevice_t device) {
  DEVICE(nvmlDeviceValidateInforom);
  return FIELD(inforom_corrupted) ? NVML_ERROR_CORRUPTED_INFOROM : NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *out) {
  DEVICE(nvmlDeviceGetGspFirmwareVersion);
  NEED(out);
  if (!t.dev->id.gsp[0]) return NVML_ERROR_NOT_SUPPORTED;
  return copy_text(t.dev->id.gsp, out, 64);
}
NVML_API nvmlReturn_t nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, u32_t *enabled,
                                                   u32_t *by_default) {
  DEVICE(nvmlDeviceGetGspFirmwareMode);
  NEED(enabled && by_default);
  *enabled = *by_default = t.dev->id.gsp[0] != 0;
  return NVML_SUCCESS;
}

void fill_pci(const struct sim_identity *id, pci_info_t *out) {
  memset(out, 0, sizeof *out);
  out->domain = id->pci_domain;
  out->bus = id->pci_bus;
  out->device = id->pci_device;
  out->id = id->pci_id;
  out->subsystem = id->pci_subsystem;
  snprintf(out->bus_id, sizeof out->bus_id, "%08X:%02X:%02X.0", id->pci_domain, id->pci_bus & 0xff,
           id->pci_device & 0xff);
  snprintf(out->bus_id_legacy, sizeof out->bus_id_legacy, "%04X:%02X:%02X.0",
           id->pci_domain & 0xffff, id->pci_bus & 0xff, id->pci_device & 0xff);
}
NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, pci_info_t *out) {
  struct target t;
  nvmlReturn_t r = enter_lost_device(SYM_nvmlDeviceGetPciInfo_v3, device, &t);
  if (r) return r;
  NEED(out);
  fill_pci(&t.dev->id, out);
  return NVML_SUCCESS;
}
static nvmlReturn_t old_pci(unsigned symbol, nvmlDevice_t device, pci_info_v2_t *out) {
  struct target t;
  nvmlReturn_t r = enter_lost_device(symbol, device, &t);
  if (r) return r;
  NEED(out);
  pci_info_t full;
  fill_pci(&t.dev->id, &full);
  memset(out, 0, sizeof *out);
  memcpy(out->bus_id_legacy, full.bus_id_legacy, sizeof out->bus_id_legacy);
  out->domain = full.domain;
  out->bus = full.bus;
  out->device = full.device;
  out->id = full.id;
  out->subsystem = full.subsystem;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, pci_info_v2_t *out) {
  return old_pci(SYM_nvmlDeviceGetPciInfo_v2, device, out);
}
NVML_API nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, pci_info_v2_t *out) {
  return old_pci(SYM_nvmlDeviceGetPciInfo, device, out);
}
NVML_API nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, pci_info_ext_t *out) {
  DEVICE(nvmlDeviceGetPciInfoExt);
  NEED(out);
  VERSION(out->version, pci_info_ext_t, 1);
  pci_info_t full;
  fill_pci(&t.dev->id, &full);
  out->domain = full.domain;
  out->bus = full.bus;
  out->device = full.device;
  out->id = full.id;
  out->subsystem = full.subsystem;
  out->base_class = 3; /* display controller, 3D */
  out->sub_class = 2;
  memcpy(out->bus_id, full.bus_id, sizeof out->bus_id);
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, u32_t *out) {
  DEVICE(nvmlDeviceGetMinorNumber);
  NEED(out);
  WHOLE_DEVICE_ONLY;
  *out = t.dev->id.minor;
  return NVML_SUCCESS;
}
GET_U32(nvmlDeviceGetModuleId, t.dev->id.module_id)
GET_U32(nvmlDeviceGetBoardId, t.dev->id.pci_bus << 8)
GET_U32(nvmlDeviceGetMultiGpuBoard, 0)
GET_U32(nvmlDeviceGetNumaNodeId, t.dev->id.numa_node)
GET_U32(nvmlDeviceGetBrand, t.dev->id.brand)
GET_U32(nvmlDeviceGetArchitecture, t.dev->id.architecture)
GET_U32(nvmlDeviceGetNumGpuCores, t.dev->id.cores)
GET_U32(nvmlDeviceGetMemoryBusWidth, t.dev->id.bus_width_bits)
GET_U32(nvmlDeviceGetBusType, 2) /* PCIe */
GET_U32(nvmlDeviceGetPowerSource, 0)
GET_U32(nvmlDeviceGetVirtualizationMode, 0)
GET_U32(nvmlDeviceGetPersistenceMode, FIELD(persistence))
GET_U32(nvmlDeviceGetComputeMode, FIELD(compute_mode))
GET_U32(nvmlDeviceGetDisplayActive, 0)
GET_U32(nvmlDeviceGetDisplayMode, 0)
GET_U32(nvmlDeviceGetIrqNum, 128 + t.dev->id.minor)

NVML_API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major,
                                                         int *minor) {
  DEVICE(nvmlDeviceGetCudaComputeCapability);
  NEED(major && minor);
  *major = (int)t.dev->id.cc_major;
  *minor = (int)t.dev->id.cc_minor;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetPlatformInfo(nvmlDevice_t device, platform_t *out) {
  DEVICE(nvmlDeviceGetPlatformInfo);
  NEED(out);
  if (out->version != VERSIONED(platform_t, 1) && out->version != VERSIONED(platform_t, 2))
    return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  if (!t.dev->id.has_fabric) return NVML_ERROR_NOT_SUPPORTED;
  u32_t version = out->version;
  memset(out, 0, sizeof *out);
  out->version = version;
  out->slot = 1;
  out->peer_type = 1; /* connected through a switch */
  out->module = (unsigned char)t.dev->id.module_id;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device, nvmlDevice_t other,
                                                          u32_t *out) {
  DEVICE(nvmlDeviceGetTopologyCommonAncestor);
  NEED(out);
  if (!is_handle(other) || other->record >= sim_state()->device_count)
    return NVML_ERROR_INVALID_ARGUMENT;
  const struct sim_identity *second = &sim_state()->devices[other->record].id;
  *out = other->record == t.record ? 0 : second->numa_node == t.dev->id.numa_node ? 30 : 50;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t device, nvmlDevice_t other, u32_t index,
                                             u32_t *out) {
  DEVICE(nvmlDeviceGetP2PStatus);
  NEED(out);
  if (!is_handle(other) || other->record >= sim_state()->device_count || index > 5)
    return NVML_ERROR_INVALID_ARGUMENT;
  *out = index == 2 && !t.dev->id.link_count ? 5 /* not supported */ : 0;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t device, nvmlDevice_t other, int *out) {
  DEVICE(nvmlDeviceOnSameBoard);
  NEED(out);
  if (!is_handle(other)) return NVML_ERROR_INVALID_ARGUMENT;
  *out = other->record == t.record;
  return NVML_SUCCESS;
}

/* All processors of the host: the simulated boards hang off every node alike. */
static nvmlReturn_t all_cpus(u32_t size, unsigned long *set) {
  if (!set || !size) return NVML_ERROR_INVALID_ARGUMENT;
  long n = sysconf(_SC_NPROCESSORS_CONF);
  memset(set, 0, size * sizeof *set);
  for (long i = 0; i < n && (u32_t)i < size * 64; i++) set[i / 64] |= 1ul << (i % 64);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, u32_t size,
                                               unsigned long *set) {
  DEVICE(nvmlDeviceGetCpuAffinity);
  return all_cpus(size, set);
}
NVML_API nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, u32_t size,
                                                          unsigned long *set, u32_t scope) {
  DEVICE(nvmlDeviceGetCpuAffinityWithinScope);
  (void)scope;
  return all_cpus(size, set);
}
NVML_API nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, u32_t size,
                                                  unsigned long *set, u32_t scope) {
  DEVICE(nvmlDeviceGetMemoryAffinity);
  (void)scope;
  if (!set || !size) return NVML_ERROR_INVALID_ARGUMENT;
  memset(set, 0, size * sizeof *set);
  set[0] = 1ul << (t.dev->id.numa_node & 63);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetAddressingMode(nvmlDevice_t device, versioned_u32_t *out) {
  DEVICE(nvmlDeviceGetAddressingMode);
  NEED(out);
  VERSION(out->version, versioned_u32_t, 1);
  out->value = 1; /* heterogeneous memory management */
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetCapabilities(nvmlDevice_t device, versioned_u32_t *out) {
  DEVICE(nvmlDeviceGetCapabilities);
  NEED(out);
  VERSION(out->version, versioned_u32_t, 1);
  out->value = 0;
  return NVML_SUCCESS;
}

static nvmlReturn_t set_mode(u32_t record, u32_t mode, u64_t value) {
  struct sim_reply reply;
  return driver_call(SIM_SET_MODE, record, mode, value, NULL, &reply);
}
#define SET_MODE(name, mode)                                     \
  NVML_API nvmlReturn_t name(nvmlDevice_t device, u32_t value) { \
    DEVICE(name);                                                \
    WHOLE_DEVICE_ONLY;                                           \
    return set_mode(t.record, mode, value);                      \
  }
SET_MODE(nvmlDeviceSetPersistenceMode, SIM_MODE_PERSISTENCE)
SET_MODE(nvmlDeviceSetAccountingMode, SIM_MODE_ACCOUNTING)
SET_MODE(nvmlDeviceSetComputeMode, SIM_MODE_COMPUTE)
SET_MODE(nvmlDeviceSetEccMode, SIM_MODE_ECC)
SET_MODE(nvmlDeviceSetPowerManagementLimit, SIM_MODE_POWER_LIMIT)
NVML_API nvmlReturn_t nvmlDeviceClearAccountingPids(nvmlDevice_t device) {
  DEVICE(nvmlDeviceClearAccountingPids);
  return set_mode(t.record, SIM_MODE_ACCOUNTING_CLEAR, 0);
}
