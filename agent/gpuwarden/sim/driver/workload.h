/* The workloads: what they share. Each is one process that connects to the simulated driver as a
 * GPU program opens its device, found by GPUWARDEN_SIM_DIR and NVIDIA_VISIBLE_DEVICES. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdint.h>

#include "protocol.h"
#include "simstate.h"

struct options {
  uint64_t size, start_size, rate, lock_up_at, seed;
  uint32_t device, children, load, late_load, step_ms, port, demand, xid;
  uint32_t interval_ms, base_low_ms, base_high_ms, slo_ms, timeout_ms, start_after_ms,
      exit_after_ms, zombie_s, kind;
  const char *start_when;
  int ignore_term, persistent;
};

/* simclient.c: every call ends the process with a message when the driver is away or answers
 * nothing for 10 s; `call` returns the NVML code of the answer. */
int connect_driver(uint32_t kind, int inherit);
uint32_t call(int fd, uint32_t op, uint32_t device, uint64_t a, uint64_t b, const char *text,
              struct sim_reply *reply);
uint32_t visible_device(int fd, uint32_t ordinal);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t now_ns(void);
uint64_t mix(uint64_t seed, uint64_t n); /* a pure hash */
void wait_for_hangup(int fd);            /* returns never: ends when the driver goes */

int run_hold(const struct options *o);
int run_hog(const struct options *o);
int run_serve(const struct options *o);

#endif
