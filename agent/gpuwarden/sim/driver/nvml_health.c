/* ECC, row remaps, retired pages, repair, PCIe, NVLink, fabric, accounting. */
#define _GNU_SOURCE
#include "nvml_lib.h"

NVML_API nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, u32_t *current, u32_t *pending) {
  DEVICE(nvmlDeviceGetEccMode);
  NEED(current && pending);
  *current = FIELD(ecc_mode);
  *pending = FIELD(ecc_pending);
  return NVML_SUCCESS;
}
GET_U32(nvmlDeviceGetDefaultEccMode, 1)

static u64_t ecc_total(struct target t, u32_t type, u32_t counter) {
  u64_t sum = 0;
  READ(sum = 0; for (int i = 0; i < 8; i++) sum += t.dev->ecc[type][counter][i]);
  return sum;
}
NVML_API nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, u32_t type, u32_t counter,
                                                  u64_t *out) {
  DEVICE(nvmlDeviceGetTotalEccErrors);
  NEED(out);
  if (type > 1 || counter > 1) return NVML_ERROR_INVALID_ARGUMENT;
  if (!FIELD(ecc_mode)) return NVML_ERROR_NOT_SUPPORTED;
  *out = ecc_total(t, type, counter);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, u32_t type,
                                                      u32_t counter, u32_t location, u64_t *out) {
  DEVICE(nvmlDeviceGetMemoryErrorCounter);
  NEED(out);
  if (type > 1 || counter > 1 || location > 7) return NVML_ERROR_INVALID_ARGUMENT;
  if (!FIELD(ecc_mode)) return NVML_ERROR_NOT_SUPPORTED;
  *out = FIELD(ecc[type][counter][location]);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, u32_t type, u32_t counter,
                                                     ecc_counts_t *out) {
  DEVICE(nvmlDeviceGetDetailedEccErrors);
  NEED(out);
  if (type > 1 || counter > 1) return NVML_ERROR_INVALID_ARGUMENT;
  if (!FIELD(ecc_mode)) return NVML_ERROR_NOT_SUPPORTED;
  READ(const uint64_t *e = t.dev->ecc[type][counter];
       *out = (ecc_counts_t){e[0], e[1], e[2], e[3]});
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, sram_ecc_t *out) {
  DEVICE(nvmlDeviceGetSramEccErrorStatus);
  NEED(out);
  VERSION(out->version, sram_ecc_t, 1);
  if (!FIELD(ecc_mode) || t.dev->id.architecture < 7) return NVML_ERROR_NOT_SUPPORTED;
  u32_t version = out->version;
  memset(out, 0, sizeof *out);
  out->version = version;
  READ(out->aggregate_unc_secded = t.dev->ecc[1][1][7]; out->aggregate_cor = t.dev->ecc[0][1][7];
       out->volatile_unc_secded = t.dev->ecc[1][0][7]; out->volatile_cor = t.dev->ecc[0][0][7];
       out->bucket_sm = t.dev->ecc[1][1][7];
       out->threshold_exceeded = t.dev->sram_threshold_exceeded);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetSramUniqueUncorrectedEccErrorCounts(nvmlDevice_t device,
                                                                       sram_unique_t *out) {
  DEVICE(nvmlDeviceGetSramUniqueUncorrectedEccErrorCounts);
  NEED(out);
  VERSION(out->version, sram_unique_t, 1);
  if (!FIELD(ecc_mode) || t.dev->id.architecture < 7) return NVML_ERROR_NOT_SUPPORTED;
  out->count = 0;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, u32_t *cor, u32_t *unc,
                                                u32_t *pending, u32_t *failed) {
  DEVICE(nvmlDeviceGetRemappedRows);
  NEED(cor && unc && pending && failed);
  if (!t.dev->id.has_row_remap) return NVML_ERROR_NOT_SUPPORTED;
  READ(*cor = t.dev->remap_correctable; *unc = t.dev->remap_uncorrectable;
       *pending = t.dev->remap_pending; *failed = t.dev->remap_failed);
  return NVML_SUCCESS;
}
typedef struct {
  u32_t cor_active, cor_inactive, unc_active, unc_inactive, pending, failed;
} remapped_rows_v2_t;
NVML_API nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, remapped_rows_v2_t *out) {
  DEVICE(nvmlDeviceGetRemappedRows_v2);
  NEED(out);
  if (!t.dev->id.has_row_remap) return NVML_ERROR_NOT_SUPPORTED;
  READ(*out = (remapped_rows_v2_t){t.dev->remap_correctable, 0, t.dev->remap_uncorrectable, 0,
                                   t.dev->remap_pending, t.dev->remap_failed});
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device,
                                                        remap_histogram_t *out) {
  DEVICE(nvmlDeviceGetRowRemapperHistogram);
  NEED(out);
  if (!t.dev->id.has_row_remap) return NVML_ERROR_NOT_SUPPORTED;
  READ(const uint32_t *b = t.dev->remap_banks;
       *out = (remap_histogram_t){b[0], b[1], b[2], b[3], b[4]});
  return NVML_SUCCESS;
}

static nvmlReturn_t retired(struct target t, u32_t cause, u32_t *count, u64_t *addresses,
                            u64_t *times) {
  NEED(count);
  if (cause > 1) return NVML_ERROR_INVALID_ARGUMENT;
  if (!t.dev->id.has_retired_pages) return NVML_ERROR_NOT_SUPPORTED;
  u32_t room = addresses ? *count : 0, n = 0;
  READ({
    n = 0;
    for (u32_t i = 0; i < t.dev->retired_count && i < SIM_MAX_RETIRED; i++) {
      if (t.dev->retired[i].cause != cause) continue;
      if (n < room) {
        addresses[n] = t.dev->retired[i].address;
        if (times) times[n] = t.dev->retired[i].at_s;
      }
      n++;
    }
  });
  *count = n;
  return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, u32_t cause, u32_t *count,
                                                u64_t *addresses) {
  DEVICE(nvmlDeviceGetRetiredPages);
  return retired(t, cause, count, addresses, NULL);
}
NVML_API nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, u32_t cause, u32_t *count,
                                                   u64_t *addresses, u64_t *times) {
  DEVICE(nvmlDeviceGetRetiredPages_v2);
  return retired(t, cause, count, addresses, times);
}
NVML_API nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, u32_t *out) {
  DEVICE(nvmlDeviceGetRetiredPagesPendingStatus);
  NEED(out);
  if (!t.dev->id.has_retired_pages) return NVML_ERROR_NOT_SUPPORTED;
  *out = FIELD(retired_pending);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, repair_status_t *out) {
  DEVICE(nvmlDeviceGetRepairStatus);
  NEED(out);
  VERSION(out->version, repair_status_t, 1);
  READ(out->channel = t.dev->repair_channel; out->tpc = t.dev->repair_tpc);
  return NVML_SUCCESS;
}
/* Two layouts are in the field: the plain flag of the C header, and a versioned pair that newer
 * Python bindings send. The version word tells them apart. */
NVML_API nvmlReturn_t nvmlDeviceGetUnrepairableMemoryFlag_v1(nvmlDevice_t device, u32_t *out) {
  DEVICE(nvmlDeviceGetUnrepairableMemoryFlag_v1);
  NEED(out);
  out[out[0] == VERSIONED(versioned_u32_t, 1) ? 1 : 0] = FIELD(unrepairable);
  return NVML_SUCCESS;
}

/* --- PCIe --- */

GET_U32(nvmlDeviceGetCurrPcieLinkGeneration, FIELD(pcie_gen))
GET_U32(nvmlDeviceGetCurrPcieLinkWidth, FIELD(pcie_width))
GET_U32(nvmlDeviceGetMaxPcieLinkGeneration, t.dev->id.pcie_gen_max)
GET_U32(nvmlDeviceGetGpuMaxPcieLinkGeneration, t.dev->id.pcie_gen_max)
GET_U32(nvmlDeviceGetMaxPcieLinkWidth, t.dev->id.pcie_width_max)
GET_U32(nvmlDeviceGetPcieReplayCounter, FIELD(pcie_replays))
static u32_t mega_transfers(u32_t generation) {
  static const u32_t rates[] = {0, 2500, 5000, 8000, 16000, 32000, 64000};
  return generation < 7 ? rates[generation] : 0;
}
GET_U32(nvmlDeviceGetPcieSpeed, mega_transfers(FIELD(pcie_gen)))
GET_U32(nvmlDeviceGetPcieLinkMaxSpeed, t.dev->id.pcie_gen_max)
NVML_API nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, u32_t counter, u32_t *out) {
  DEVICE(nvmlDeviceGetPcieThroughput);
  NEED(out);
  WHOLE_DEVICE_ONLY;
  if (counter > 1) return NVML_ERROR_INVALID_ARGUMENT;
  *out = counter ? FIELD(pcie_rx_kbps) : FIELD(pcie_tx_kbps);
  return NVML_SUCCESS;
}

/* --- NVLink and fabric --- */

#define LINK(name)                                                      \
  DEVICE(name);                                                         \
  WHOLE_DEVICE_ONLY;                                                    \
  if (!t.dev->id.link_count) return NVML_ERROR_NOT_SUPPORTED;           \
  if (link >= t.dev->id.link_count) return NVML_ERROR_INVALID_ARGUMENT; \
  NEED(out)

NVML_API nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, u32_t link, u32_t *out) {
  LINK(nvmlDeviceGetNvLinkState);
  *out = FIELD(link_up[link]);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, u32_t link, u32_t *out) {
  LINK(nvmlDeviceGetNvLinkVersion);
  *out = t.dev->id.link_version;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, u32_t link,
                                                    u32_t capability, u32_t *out) {
  LINK(nvmlDeviceGetNvLinkCapability);
  if (capability > 5) return NVML_ERROR_INVALID_ARGUMENT;
  *out = capability != 4; /* all but the bridge */
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, u32_t link,
                                                      u32_t counter, u64_t *out) {
  LINK(nvmlDeviceGetNvLinkErrorCounter);
  if (counter > 4) return NVML_ERROR_INVALID_ARGUMENT;
  if (t.dev->id.link_version >= 7)
    return NVML_ERROR_NOT_SUPPORTED; /* fifth generation: fields only */
  *out = FIELD(link_errors[link][counter]);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, u32_t link,
                                                          u32_t *out) {
  LINK(nvmlDeviceGetNvLinkRemoteDeviceType);
  *out = 2; /* a switch */
  return NVML_SUCCESS;
}
static nvmlReturn_t remote_pci(struct target t, u32_t link, pci_info_t *out) {
  struct sim_identity remote = {.pci_bus = 0xc0 + link % 4, .pci_id = 0x22a310de};
  if (!FIELD(link_up[link])) return NVML_ERROR_NOT_SUPPORTED;
  fill_pci(&remote, out);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, u32_t link,
                                                          pci_info_t *out) {
  LINK(nvmlDeviceGetNvLinkRemotePciInfo_v2);
  return remote_pci(t, link, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, fabric_t *out) {
  DEVICE(nvmlDeviceGetGpuFabricInfo);
  NEED(out);
  if (!t.dev->id.has_fabric) return NVML_ERROR_NOT_SUPPORTED;
  memset(out, 0, sizeof *out);
  out->state = (unsigned char)FIELD(fabric_state);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, fabric_v3_t *out) {
  DEVICE(nvmlDeviceGetGpuFabricInfoV);
  NEED(out);
  int third = out->version == VERSIONED(fabric_v3_t, 3);
  if (!third && out->version != VERSIONED(fabric_v2_t, 2))
    return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  if (!t.dev->id.has_fabric) return NVML_ERROR_NOT_SUPPORTED;
  memset(out->cluster, 0, sizeof out->cluster);
  out->status = NVML_SUCCESS;
  out->clique = 0;
  out->state = (unsigned char)FIELD(fabric_state);
  out->health = FIELD(fabric_health_mask);
  int is_ill = 0; /* pairs of bits: 0 not supported, 1 true, 2 false */
  for (int bit = 0; bit < 8; bit += 2) is_ill |= (out->health >> bit & 3) == 1;
  if (third) out->summary = is_ill ? 2 : 1;
  return NVML_SUCCESS;
}

/* --- accounting --- */

GET_U32(nvmlDeviceGetAccountingMode, FIELD(accounting_mode))
GET_U32(nvmlDeviceGetAccountingBufferSize, SIM_MAX_ACCOUNTING)
NVML_API nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, u32_t *count, u32_t *out) {
  DEVICE(nvmlDeviceGetAccountingPids);
  NEED(count);
  if (!FIELD(accounting_mode)) return NVML_ERROR_NOT_SUPPORTED;
  u32_t room = out ? *count : 0, n = 0;
  READ({
    n = t.dev->accounting_count < SIM_MAX_ACCOUNTING ? t.dev->accounting_count : SIM_MAX_ACCOUNTING;
    for (u32_t i = 0; i < n && i < room; i++) out[i] = t.dev->accounting[i].pid;
  });
  *count = n;
  return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, u32_t pid,
                                                   accounting_stats_t *out) {
  DEVICE(nvmlDeviceGetAccountingStats);
  NEED(out);
  if (!FIELD(accounting_mode)) return NVML_ERROR_NOT_SUPPORTED;
  int found = 0;
  READ({
    found = 0;
    for (u32_t i = 0; i < t.dev->accounting_count && i < SIM_MAX_ACCOUNTING; i++) {
      const struct sim_accounting *a = &t.dev->accounting[i];
      if (a->pid != pid) continue;
      *out = (accounting_stats_t){a->gpu_util,   a->mem_util, a->max_bytes, a->time_ms,
                                  a->started_us, a->running,  {0}};
      found = 1;
    }
  });
  return found ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}
