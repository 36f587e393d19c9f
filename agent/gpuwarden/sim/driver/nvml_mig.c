/* MIG: instances as devices of their own, and the instances behind them. */
#define _GNU_SOURCE
#include <stdio.h>

#include "nvml_lib.h"

/* An instance handle is an address in one of these tables; its place says which instance. */
struct sim_instance {
  unsigned char unused;
};
static struct sim_instance gpu_instances[SIM_MAX_DEVICES * SIM_MAX_MIG];
static struct sim_instance compute_instances[SIM_MAX_DEVICES * SIM_MAX_MIG];

static const struct sim_mig *instance_at(const struct sim_instance *table,
                                         const struct sim_instance *handle, unsigned *record,
                                         unsigned *slot) {
  uintptr_t p = (uintptr_t)handle, first = (uintptr_t)table;
  if (p < first || p >= first + SIM_MAX_DEVICES * SIM_MAX_MIG) return NULL;
  *record = (unsigned)(p - first) / SIM_MAX_MIG;
  *slot = (unsigned)(p - first) % SIM_MAX_MIG;
  const struct sim_mig *m = &sim_state()->devices[*record].mig[*slot];
  return m->in_use ? m : NULL;
}

NVML_API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, u32_t *current, u32_t *pending) {
  DEVICE(nvmlDeviceGetMigMode);
  NEED(current && pending);
  if (t.mig || !t.dev->id.has_mig) return NVML_ERROR_NOT_SUPPORTED;
  *current = FIELD(mig_mode);
  *pending = FIELD(mig_pending);
  return NVML_SUCCESS;
}
GET_U32(nvmlDeviceIsMigDeviceHandle, t.mig != 0)
GET_U32(nvmlDeviceGetMaxMigDeviceCount, t.dev->id.has_mig && !t.mig ? SIM_MAX_MIG : 0)

NVML_API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, u32_t index,
                                                          nvmlDevice_t *out) {
  DEVICE(nvmlDeviceGetMigDeviceHandleByIndex);
  NEED(out);
  if (t.mig || !t.dev->id.has_mig) return NVML_ERROR_NOT_SUPPORTED;
  if (index >= SIM_MAX_MIG) return NVML_ERROR_INVALID_ARGUMENT;
  if (!t.dev->mig[index].in_use) return NVML_ERROR_NOT_FOUND;
  *out = handle_of(t.record, index + 1);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t device,
                                                                   nvmlDevice_t *out) {
  DEVICE(nvmlDeviceGetDeviceHandleFromMigDeviceHandle);
  NEED(out);
  if (!t.mig) return NVML_ERROR_INVALID_ARGUMENT;
  *out = handle_of(t.record, 0);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, u32_t *out) {
  DEVICE(nvmlDeviceGetGpuInstanceId);
  NEED(out);
  if (!t.mig) return NVML_ERROR_INVALID_ARGUMENT;
  *out = t.dev->mig[t.mig - 1].gi;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, u32_t *out) {
  DEVICE(nvmlDeviceGetComputeInstanceId);
  NEED(out);
  if (!t.mig) return NVML_ERROR_INVALID_ARGUMENT;
  *out = t.dev->mig[t.mig - 1].ci;
  return NVML_SUCCESS;
}
static nvmlReturn_t attributes(struct target t, attributes_t *out) {
  NEED(out);
  if (!t.mig) return NVML_ERROR_NOT_SUPPORTED;
  const struct sim_mig *m = &t.dev->mig[t.mig - 1];
  *out = (attributes_t){m->sm_count, m->slices, m->slices,     0, 0, 0,
                        m->slices,   m->slices, m->total >> 20};
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, attributes_t *out) {
  DEVICE(nvmlDeviceGetAttributes_v2);
  return attributes(t, out);
}
NVML_API nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, attributes_t *out) {
  DEVICE(nvmlDeviceGetAttributes);
  return attributes(t, out);
}

/* --- instances --- */

NVML_API nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, u32_t profile,
                                                nvmlGpuInstance_t *out, u32_t *count) {
  DEVICE(nvmlDeviceGetGpuInstances);
  NEED(out && count);
  if (t.mig || !FIELD(mig_mode)) return NVML_ERROR_NOT_SUPPORTED;
  *count = 0;
  for (unsigned i = 0; i < SIM_MAX_MIG; i++)
    if (t.dev->mig[i].in_use && t.dev->mig[i].profile == profile)
      out[(*count)++] = &gpu_instances[t.record * SIM_MAX_MIG + i];
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, u32_t id,
                                                   nvmlGpuInstance_t *out) {
  DEVICE(nvmlDeviceGetGpuInstanceById);
  NEED(out);
  if (t.mig || !FIELD(mig_mode)) return NVML_ERROR_NOT_SUPPORTED;
  for (unsigned i = 0; i < SIM_MAX_MIG; i++)
    if (t.dev->mig[i].in_use && t.dev->mig[i].gi == id) {
      *out = &gpu_instances[t.record * SIM_MAX_MIG + i];
      return NVML_SUCCESS;
    }
  return NVML_ERROR_NOT_FOUND;
}
NVML_API nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, gpu_instance_info_t *out) {
  ENTER(nvmlGpuInstanceGetInfo);
  unsigned record, slot;
  const struct sim_mig *m = instance_at(gpu_instances, instance, &record, &slot);
  NEED(m && out);
  *out = (gpu_instance_info_t){
      handle_of(record, 0), m->gi, m->profile, {m->placement_start, m->placement_size}};
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, u32_t profile,
                                                         nvmlComputeInstance_t *out, u32_t *count) {
  ENTER(nvmlGpuInstanceGetComputeInstances);
  unsigned record, slot;
  NEED(instance_at(gpu_instances, instance, &record, &slot) && out && count);
  *count = profile == 0; /* one compute instance fills each GPU instance */
  if (*count) out[0] = &compute_instances[record * SIM_MAX_MIG + slot];
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, u32_t id,
                                                            nvmlComputeInstance_t *out) {
  ENTER(nvmlGpuInstanceGetComputeInstanceById);
  unsigned record, slot;
  const struct sim_mig *m = instance_at(gpu_instances, instance, &record, &slot);
  NEED(m && out);
  if (m->ci != id) return NVML_ERROR_NOT_FOUND;
  *out = &compute_instances[record * SIM_MAX_MIG + slot];
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t instance,
                                                    compute_instance_info_t *out) {
  ENTER(nvmlComputeInstanceGetInfo_v2);
  unsigned record, slot;
  const struct sim_mig *m = instance_at(compute_instances, instance, &record, &slot);
  NEED(m && out);
  *out = (compute_instance_info_t){
      handle_of(record, 0), &gpu_instances[record * SIM_MAX_MIG + slot], m->ci, 0, {0, m->slices}};
  return NVML_SUCCESS;
}

/* Instance profiles: index -> slices; memory in eighths of the device. */
static nvmlReturn_t gi_profile(struct target t, u32_t profile, gi_profile_v2_t *out) {
  static const u32_t slices[] = {1, 2, 3, 4, 7}, eighths[] = {1, 2, 4, 4, 8};
  if (t.mig || !t.dev->id.has_mig) return NVML_ERROR_NOT_SUPPORTED;
  if (profile >= sizeof slices / sizeof *slices) return NVML_ERROR_NOT_SUPPORTED;
  u64_t mb = (t.dev->id.total >> 20) * eighths[profile] / 8;
  u32_t version = out->version;
  memset(out, 0, sizeof *out);
  out->version = version;
  out->id = profile;
  out->slices = slices[profile];
  out->instances = 8 / eighths[profile] > 7 ? 7 : 8 / eighths[profile];
  out->sm = t.dev->id.sm_count * slices[profile] / 7;
  out->copy = slices[profile];
  out->memory_mb = mb;
  snprintf(out->name, sizeof out->name, "MIG %ug.%llugb", slices[profile], (mb + 512) / 1024);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, u32_t profile,
                                                          gi_profile_t *out) {
  DEVICE(nvmlDeviceGetGpuInstanceProfileInfo);
  NEED(out);
  gi_profile_v2_t full = {0};
  nvmlReturn_t r = gi_profile(t, profile, &full);
  if (r) return r;
  *out = (gi_profile_t){full.id,  full.p2p, full.slices, full.instances, full.sm,       full.copy,
                        full.dec, full.enc, full.jpg,    full.ofa,       full.memory_mb};
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, u32_t profile,
                                                           gi_profile_v2_t *out) {
  DEVICE(nvmlDeviceGetGpuInstanceProfileInfoV);
  NEED(out);
  VERSION(out->version, gi_profile_v2_t, 2);
  return gi_profile(t, profile, out);
}
