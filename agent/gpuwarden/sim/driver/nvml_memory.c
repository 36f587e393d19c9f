/* Memory, the processes that hold it, and limits per cgroup. */
#define _GNU_SOURCE
#include <limits.h>

#include "nvml_lib.h"

#define NO_LIMIT UINT64_MAX

/* The limit that this process lives under, or NULL. The driver is asked once after each change
 * of the limits, so that reading memory stays free of system calls. */
static const struct sim_limit *own_limit(unsigned record) {
  static _Atomic(uint64_t) cache[SIM_MAX_DEVICES]; /* generation << 32 | index + 1 */
  const struct sim_state *s = sim_state();
  uint32_t generation = atomic_load_explicit(&s->limits_generation, memory_order_relaxed);
  if (!generation) return NULL;
  uint64_t known = atomic_load_explicit(&cache[record], memory_order_relaxed);
  if (known >> 32 != generation) {
    struct sim_reply reply;
    if (driver_call(SIM_LIMIT_MINE, record, 0, 0, NULL, &reply)) return NULL;
    known = (uint64_t)generation << 32 | (reply.a < SIM_MAX_LIMITS ? reply.a + 1 : 0);
    atomic_store_explicit(&cache[record], known, memory_order_relaxed);
  }
  uint32_t slot = (uint32_t)known;
  return slot ? &s->limits[slot - 1] : NULL;
}

struct memory {
  uint64_t total, reserved, used;
};

static struct memory read_memory(struct target t) {
  struct memory m;
  if (t.mig) {
    READ(m = (struct memory){t.dev->mig[t.mig - 1].total, t.dev->mig[t.mig - 1].reserved,
                             t.dev->mig[t.mig - 1].used});
    return m;
  }
  READ(m = (struct memory){t.dev->id.total, t.dev->id.reserved, t.dev->used});
  const struct sim_limit *limit = own_limit(t.record);
  if (limit) { /* inside a limited cgroup the limit is the world */
    uint64_t hard = *(const volatile uint64_t *)&limit->hard;
    uint64_t used = *(const volatile uint64_t *)&limit->used;
    if (hard != NO_LIMIT && hard) m = (struct memory){hard, 0, used < hard ? used : hard};
  }
  return m;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, memory_t *out) {
  DEVICE(nvmlDeviceGetMemoryInfo);
  NEED(out);
  struct memory m = read_memory(t);
  out->total = m.total;
  out->used = m.used + m.reserved; /* the first version counts what the driver keeps */
  out->free = m.total - out->used;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, memory_v2_t *out) {
  DEVICE(nvmlDeviceGetMemoryInfo_v2);
  NEED(out);
  VERSION(out->version, memory_v2_t, 2);
  struct memory m = read_memory(t);
  out->total = m.total;
  out->reserved = m.reserved;
  out->used = m.used;
  out->free = m.total - m.used - m.reserved;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, bar1_t *out) {
  DEVICE(nvmlDeviceGetBAR1MemoryInfo);
  NEED(out);
  out->total = t.dev->id.bar1_total;
  out->used = FIELD(bar1_used);
  out->free = out->total - out->used;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetConfComputeMemSizeInfo(nvmlDevice_t device,
                                                          conf_compute_memory_t *out) {
  DEVICE(nvmlDeviceGetConfComputeMemSizeInfo);
  NEED(out);
  out->protected_kib = 0; /* confidential computing is off: all memory is unprotected */
  out->unprotected_kib = t.dev->id.total / 1024;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetConfComputeProtectedMemoryUsage(nvmlDevice_t device,
                                                                   memory_t *out) {
  DEVICE(nvmlDeviceGetConfComputeProtectedMemoryUsage);
  NEED(out);
  *out = (memory_t){0, 0, 0};
  return NVML_SUCCESS;
}

/* --- processes --- */

/* A list serves `kind`: a process under MPS shows in the MPS list only. */
static int belongs(const struct sim_proc *p, uint32_t kind, uint32_t mig) {
  if (mig && p->mig != mig) return 0;
  if (kind == SIM_MPS) return (p->kind & SIM_MPS) != 0;
  return (p->kind & kind) != 0 && !(p->kind & SIM_MPS);
}
static uint32_t instance_of(const struct sim_device *dev, const struct sim_proc *p, int compute) {
  if (!p->mig || p->mig > SIM_MAX_MIG) return SIM_NO_INSTANCE;
  return compute ? dev->mig[p->mig - 1].ci : dev->mig[p->mig - 1].gi;
}

enum entry { ENTRY_V1, ENTRY_V2, ENTRY_DETAIL };

static void put(void *out, u32_t at, enum entry format, const struct sim_device *dev,
                const struct sim_proc *p) {
  u32_t gi = instance_of(dev, p, 0), ci = instance_of(dev, p, 1);
  if (format == ENTRY_V1)
    ((process_v1_t *)out)[at] = (process_v1_t){p->pid, p->bytes};
  else if (format == ENTRY_V2)
    ((process_t *)out)[at] = (process_t){p->pid, p->bytes, gi, ci};
  else
    ((process_detail_t *)out)[at] = (process_detail_t){p->pid, p->bytes, gi, ci, 0};
}

/* Two calls: with too little room the needed count and INSUFFICIENT_SIZE; without processes
 * SUCCESS at once. */
static nvmlReturn_t list(struct target t, uint32_t kind, enum entry format, u32_t *count,
                         void *out) {
  u32_t room = out ? *count : 0, n = 0;
  READ({
    n = 0;
    u32_t total = t.dev->proc_count < SIM_MAX_PROCS ? t.dev->proc_count : SIM_MAX_PROCS;
    for (u32_t i = 0; i < total; i++) {
      const struct sim_proc *p = &t.dev->procs[i];
      if (!belongs(p, kind, t.mig)) continue;
      if (n < room) put(out, n, format, t.dev, p);
      n++;
    }
  });
  *count = n;
  return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

#define PROCESS_LIST(name, kind, format)                                     \
  NVML_API nvmlReturn_t name(nvmlDevice_t device, u32_t *count, void *out) { \
    DEVICE(name);                                                            \
    NEED(count);                                                             \
    return list(t, kind, format, count, out);                                \
  }
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses, SIM_COMPUTE, ENTRY_V1)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v2, SIM_COMPUTE, ENTRY_V2)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, SIM_COMPUTE, ENTRY_V2)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses, SIM_GRAPHICS, ENTRY_V1)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, SIM_GRAPHICS, ENTRY_V2)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, SIM_GRAPHICS, ENTRY_V2)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses, SIM_MPS, ENTRY_V1)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, SIM_MPS, ENTRY_V2)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, SIM_MPS, ENTRY_V2)

NVML_API nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                            process_detail_list_t *out) {
  DEVICE(nvmlDeviceGetRunningProcessDetailList);
  NEED(out);
  VERSION(out->version, process_detail_list_t, 1);
  static const uint32_t kinds[] = {SIM_COMPUTE, SIM_GRAPHICS, SIM_MPS};
  if (out->mode > 2) return NVML_ERROR_INVALID_ARGUMENT;
  return list(t, kinds[out->mode], ENTRY_DETAIL, &out->count, out->entries);
}

NVML_API nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, process_sample_t *out,
                                                      u32_t *count, u64_t since_us) {
  DEVICE(nvmlDeviceGetProcessUtilization);
  NEED(count);
  NOT_IN_MIG;
  u32_t room = out ? *count : 0, n = 0;
  READ({
    n = 0;
    for (u32_t i = 0; i < t.dev->proc_count && i < SIM_MAX_PROCS; i++) {
      const struct sim_proc *p = &t.dev->procs[i];
      if (!p->util_at_us || p->util_at_us <= since_us) continue;
      if (n < room)
        out[n] = (process_sample_t){p->pid, p->util_at_us, p->sm, p->mem, p->enc, p->dec};
      n++;
    }
  });
  if (!n) return NVML_ERROR_NOT_FOUND;
  *count = n;
  return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                            process_util_list_t *out) {
  DEVICE(nvmlDeviceGetProcessesUtilizationInfo);
  NEED(out);
  VERSION(out->version, process_util_list_t, 1);
  NOT_IN_MIG;
  u32_t room = out->entries ? out->count : 0, n = 0;
  READ({
    n = 0;
    for (u32_t i = 0; i < t.dev->proc_count && i < SIM_MAX_PROCS; i++) {
      const struct sim_proc *p = &t.dev->procs[i];
      if (!p->util_at_us || p->util_at_us <= out->since_us) continue;
      if (n < room)
        out->entries[n] =
            (process_util_t){p->util_at_us, p->pid, p->sm, p->mem, p->enc, p->dec, 0, 0};
      n++;
    }
  });
  if (!n) return NVML_ERROR_NOT_FOUND;
  out->count = n;
  return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* --- limits per cgroup (driver r615 and later) --- */

static nvmlReturn_t limits_usable(struct target t, const char *cgroup) {
  if (t.mig || FIELD(mig_mode)) return NVML_ERROR_NOT_SUPPORTED;
  if (!cgroup || !cgroup[0] || strnlen(cgroup, SIM_MAX_TEXT + 1) > SIM_MAX_TEXT)
    return NVML_ERROR_INVALID_ARGUMENT;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceSetMemoryLimits_v1(nvmlDevice_t device,
                                                   const set_limits_t *limits) {
  DEVICE(nvmlDeviceSetMemoryLimits_v1);
  NEED(limits);
  nvmlReturn_t r = limits_usable(t, limits->cgroup);
  struct sim_reply reply;
  return r ? r
           : driver_call(SIM_LIMIT_SET, t.record, limits->soft, limits->hard, limits->cgroup,
                         &reply);
}
NVML_API nvmlReturn_t nvmlDeviceGetMemoryLimits_v1(nvmlDevice_t device, get_limits_t *limits) {
  DEVICE(nvmlDeviceGetMemoryLimits_v1);
  NEED(limits);
  struct sim_reply reply;
  nvmlReturn_t r = limits_usable(t, limits->cgroup);
  if (!r) r = driver_call(SIM_LIMIT_GET, t.record, 0, 0, limits->cgroup, &reply);
  if (r) return r;
  limits->soft = reply.a;
  limits->hard = reply.b;
  limits->used = reply.c;
  return NVML_SUCCESS;
}
