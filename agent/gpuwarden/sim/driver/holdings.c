/* Who holds how many bytes: allocation, release, the process table, accounting, the log. */
#define _GNU_SOURCE
#include "driver.h"

static struct sim_proc *find_proc(struct sim_device *dev, pid_t pid, uint32_t kind, uint32_t mig) {
  for (uint32_t i = 0; i < dev->proc_count; i++) {
    struct sim_proc *p = &dev->procs[i];
    if (p->pid == (uint32_t)pid && p->kind == kind && p->mig == mig) return p;
  }
  return NULL;
}

/* The ring keeps the latest; a pid that comes back takes its old place. */
void finish_accounting(struct sim_device *dev, const struct sim_proc *p, int running) {
  struct sim_accounting *a = NULL;
  uint32_t have =
      dev->accounting_count < SIM_MAX_ACCOUNTING ? dev->accounting_count : SIM_MAX_ACCOUNTING;
  for (uint32_t i = 0; i < have && !a; i++)
    if (dev->accounting[i].pid == p->pid) a = &dev->accounting[i];
  if (!a) {
    a = &dev->accounting[dev->accounting_count % SIM_MAX_ACCOUNTING];
    *a = (struct sim_accounting){.pid = p->pid, .started_us = p->started_us};
    dev->accounting_count++;
    if (dev->accounting_count >= 2 * SIM_MAX_ACCOUNTING)
      dev->accounting_count -= SIM_MAX_ACCOUNTING;
  }
  if (p->bytes > a->max_bytes) a->max_bytes = p->bytes;
  a->running = (uint32_t)running;
  a->gpu_util = p->sm;
  a->mem_util = p->mem;
  a->time_ms =
      running ? 0 : (realtime_us() - a->started_us) / 1000; /* documented: 0 while it runs */
}

static void log_change(struct sim_device *dev, uint32_t record, pid_t pid, uint64_t bytes,
                       int64_t change) {
  driver.log[driver.log_count++ % LOG_ENTRIES] =
      (struct log_entry){monotonic_ns(), bytes, dev->used, (uint32_t)pid, record, change};
}

/* Adds to or takes from one process's entry; the caller has checked that it fits. */
static void apply(struct sim_device *dev, const struct client *c, uint32_t record, uint32_t mig,
                  int64_t change, int new_connection) {
  struct sim_proc *p = find_proc(dev, c->pid, c->kind, mig);
  uint64_t left;
  write_begin(dev);
  if (!p) {
    p = &dev->procs[dev->proc_count++];
    *p = (struct sim_proc){
        .pid = (uint32_t)c->pid, .kind = c->kind, .mig = mig, .started_us = realtime_us()};
  }
  p->connections += (uint32_t)new_connection;
  p->bytes += (uint64_t)change;
  dev->used += (uint64_t)change;
  if (mig) dev->mig[mig - 1].used += (uint64_t)change;
  left = p->bytes;
  if (dev->accounting_mode && change > 0) finish_accounting(dev, p, 1);
  if (!left) {
    if (dev->accounting_mode) finish_accounting(dev, p, 0);
    *p = dev->procs[--dev->proc_count];
  }
  write_end(dev);
  log_change(dev, record, c->pid, left, change);
}

static uint32_t can_hold(uint32_t client, uint32_t record, uint32_t mig, uint64_t more) {
  const struct sim_device *dev = public_of(record);
  const struct client *c = &driver.clients[client];
  if (dev->lost) return NVML_ERROR_GPU_IS_LOST;
  if (dev->mig_mode && !mig)
    return NVML_ERROR_NOT_SUPPORTED; /* a partitioned device takes no work of its own */
  uint64_t total = mig ? dev->mig[mig - 1].total : dev->id.total;
  uint64_t taken =
      mig ? dev->mig[mig - 1].used + dev->mig[mig - 1].reserved : dev->used + dev->id.reserved;
  if (taken > total || more > total - taken) return NVML_ERROR_MEMORY;
  if (!find_proc(public_of(record), c->pid, c->kind, mig) && dev->proc_count >= SIM_MAX_PROCS)
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
  return limit_allows(client, record, more) ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

uint32_t change_holding(uint32_t client, uint32_t record, uint32_t mig, int64_t change) {
  struct client *c = &driver.clients[client];
  struct sim_device *dev = public_of(record);
  if (change == 0) return NVML_SUCCESS;
  if (change < 0 && (uint64_t)-change > c->bytes[record][mig]) return NVML_ERROR_INVALID_ARGUMENT;
  if (change > 0) {
    uint32_t refused = can_hold(client, record, mig, (uint64_t)change);
    if (refused) return refused;
  }
  int first = c->bytes[record][mig] == 0;
  c->bytes[record][mig] += (uint64_t)change;
  apply(dev, c, record, mig, change, first);
  charge_limit(client, record, change);
  return NVML_SUCCESS;
}

void release_holdings(uint32_t client) {
  struct client *c = &driver.clients[client];
  for (uint32_t d = 0; d < driver.state->device_count; d++) {
    for (uint32_t m = 0; m <= SIM_MAX_MIG; m++)
      if (c->bytes[d][m]) change_holding(client, d, m, -(int64_t)c->bytes[d][m]);
    if (c->load[d]) set_load(client, d, 0);
  }
}

int pid_holds(pid_t pid, uint32_t record) {
  const struct sim_device *dev = public_of(record);
  for (uint32_t i = 0; i < dev->proc_count; i++)
    if (dev->procs[i].pid == (uint32_t)pid) return 1;
  return 0;
}
