/* GPM: metrics between two samples, on Hopper and later. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "nvml_lib.h"

#define GPM_VERSION 1
#define MAX_METRICS 512

struct sim_gpm_sample {
  uint32_t magic, record, taken;
  uint64_t at_us, pcie_tx, pcie_rx, link_tx_kib, link_rx_kib;
  double busy_us, sm_us, mem_us;
};
#define SAMPLE_MAGIC 0x47504d31u

NVML_API nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, gpm_support_t *out) {
  DEVICE(nvmlGpmQueryDeviceSupport);
  NEED(out);
  if (out->version != GPM_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  out->supported = t.dev->id.has_gpm;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlGpmQueryIfStreamingEnabled(nvmlDevice_t device, u32_t *out) {
  DEVICE(nvmlGpmQueryIfStreamingEnabled);
  NEED(out);
  if (!t.dev->id.has_gpm) return NVML_ERROR_NOT_SUPPORTED;
  *out = 1;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *out) {
  ENTER(nvmlGpmSampleAlloc);
  NEED(out);
  struct sim_gpm_sample *s = calloc(1, sizeof *s);
  if (!s) return NVML_ERROR_MEMORY;
  s->magic = SAMPLE_MAGIC;
  *out = s;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
  ENTER(nvmlGpmSampleFree);
  NEED(sample);
  if (sample->magic != SAMPLE_MAGIC) return NVML_ERROR_INVALID_ARGUMENT;
  sample->magic = 0;
  free(sample);
  return NVML_SUCCESS;
}

static nvmlReturn_t take(struct target t, struct sim_gpm_sample *s) {
  NEED(s);
  if (s->magic != SAMPLE_MAGIC) return NVML_ERROR_INVALID_ARGUMENT;
  if (!t.dev->id.has_gpm) return NVML_ERROR_NOT_SUPPORTED;
  s->record = t.record;
  s->taken = 1;
  READ(s->at_us = t.dev->integral_at_us; s->busy_us = t.dev->busy_us; s->sm_us = t.dev->sm_us;
       s->mem_us = t.dev->mem_us; s->pcie_tx = t.dev->pcie_tx_bytes;
       s->pcie_rx = t.dev->pcie_rx_bytes; s->link_tx_kib = s->link_rx_kib = 0;
       for (int i = 0; i < SIM_MAX_LINKS; i++) {
         s->link_tx_kib += t.dev->link_tx_kib[i];
         s->link_rx_kib += t.dev->link_rx_kib[i];
       });
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
  DEVICE(nvmlGpmSampleGet);
  WHOLE_DEVICE_ONLY;
  return take(t, sample);
}
NVML_API nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, u32_t gi, nvmlGpmSample_t sample) {
  DEVICE(nvmlGpmMigSampleGet);
  for (unsigned i = 0; i < SIM_MAX_MIG; i++) {
    if (!t.dev->mig[i].in_use || t.dev->mig[i].gi != gi) continue;
    nvmlReturn_t taken = take(t, sample);
    if (taken == NVML_SUCCESS) {
      double work = FIELD(mig[i].work_us);
      sample->busy_us = sample->sm_us = work;
      sample->mem_us = work * 0.6;
    }
    return taken;
  }
  return NVML_ERROR_NOT_FOUND;
}

/* Percent for engines, MiB/s for links; what is not simulated says so per metric. */
static nvmlReturn_t metric(u32_t id, const struct sim_gpm_sample *a, const struct sim_gpm_sample *b,
                           double us, double *out) {
  double busy = 100 * (b->busy_us - a->busy_us) / us, sm = 100 * (b->sm_us - a->sm_us) / us;
  double mem = 100 * (b->mem_us - a->mem_us) / us, mib_s = 1e6 / us / 1048576;
  switch (id) {
    case 1: *out = busy; return NVML_SUCCESS;
    case 2: *out = sm; return NVML_SUCCESS;
    case 3: *out = sm * 0.5; return NVML_SUCCESS; /* occupancy: half of the warps of a busy SM */
    case 5:
    case 7: *out = sm * 0.6; return NVML_SUCCESS; /* tensor cores */
    case 10: *out = mem; return NVML_SUCCESS;
    case 11: *out = 0; return NVML_SUCCESS;
    case 12: *out = sm * 0.2; return NVML_SUCCESS;
    case 13: *out = sm * 0.1; return NVML_SUCCESS;
    case 20: *out = (double)(b->pcie_tx - a->pcie_tx) * mib_s; return NVML_SUCCESS;
    case 21: *out = (double)(b->pcie_rx - a->pcie_rx) * mib_s; return NVML_SUCCESS;
    case 60: *out = (double)(b->link_rx_kib - a->link_rx_kib) * 1024 * mib_s; return NVML_SUCCESS;
    case 61: *out = (double)(b->link_tx_kib - a->link_tx_kib) * 1024 * mib_s; return NVML_SUCCESS;
    default: return NVML_ERROR_NOT_SUPPORTED;
  }
}

NVML_API nvmlReturn_t nvmlGpmMetricsGet(gpm_request_t *request) {
  ENTER(nvmlGpmMetricsGet);
  NEED(request);
  if (request->version != GPM_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  const struct sim_gpm_sample *a = request->first, *b = request->second;
  if (request->count > MAX_METRICS || !a || !b || a->magic != SAMPLE_MAGIC ||
      b->magic != SAMPLE_MAGIC || !a->taken || !b->taken || a->record != b->record ||
      b->at_us < a->at_us)
    return NVML_ERROR_INVALID_ARGUMENT;
  double us = (double)(b->at_us - a->at_us);
  for (u32_t i = 0; i < request->count; i++) {
    gpm_metric_t *m = &request->metrics[i];
    m->value = 0;
    m->status = us > 0 ? metric(m->id, a, b, us, &m->value) : NVML_ERROR_NO_DATA;
  }
  return NVML_SUCCESS;
}
