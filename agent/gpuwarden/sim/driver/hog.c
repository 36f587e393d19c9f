/* Workloads that hold memory: one that stays as it is, one that grows. */
#define _GNU_SOURCE
#include "workload.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NVML_ERROR_MEMORY 20

static void pause_ms(uint64_t ms) {
  struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  while (nanosleep(&t, &t)) {
  }
}

static int take(int fd, uint32_t device, uint64_t bytes) {
  struct sim_reply reply;
  if (!bytes) return 0;
  uint32_t status = call(fd, SIM_ALLOC, device, bytes, 0, NULL, &reply);
  if (!status) return 0;
  fprintf(stderr, "workload: allocation of %llu bytes failed: %s (%u), holding %llu\n",
          (unsigned long long)bytes, status == NVML_ERROR_MEMORY ? "out of memory" : "error",
          status, (unsigned long long)reply.a);
  return -1;
}

static void ready(void) {
  puts("ready");
  fflush(stdout);
}

int run_hold(const struct options *o) {
  struct sim_reply reply;
  int fd = connect_driver(o->kind, 0);
  uint32_t device = visible_device(fd, o->device);
  if (take(fd, device, o->size)) return 1;
  if (o->load) call(fd, SIM_LOAD, device, o->load, 0, NULL, &reply);
  ready();
  wait_for_hangup(fd);
  return 1;
}

/* A child that inherits the connection keeps the bytes under its dead parent's pid. */
static void leave_zombie_memory(uint32_t seconds) {
  if (!seconds || fork()) return;
  setsid();
  signal(SIGTERM, SIG_IGN);
  pause_ms((uint64_t)seconds * 1000);
  _exit(0);
}

static void grow(const struct options *o, uint64_t size, uint64_t rate) {
  struct sim_reply reply;
  int fd = connect_driver(o->kind, o->zombie_s != 0), locked = 0;
  uint32_t device = visible_device(fd, o->device);
  uint64_t have = o->start_size < size ? o->start_size : size;
  if (take(fd, device, have)) wait_for_hangup(fd);
  if (o->load) call(fd, SIM_LOAD, device, o->load, 0, NULL, &reply);
  leave_zombie_memory(o->zombie_s);
  ready();
  while (o->start_when && access(o->start_when, F_OK)) pause_ms(5);
  pause_ms(o->start_after_ms);
  if (o->late_load) call(fd, SIM_LOAD, device, o->late_load, 0, NULL, &reply);
  uint64_t last = now_ns(), longest = 2000000ull * o->step_ms;
  double owed = 0;
  while (have < size || (o->lock_up_at && !locked)) {
    pause_ms(o->step_ms);
    uint64_t now = now_ns(), past = now - last;
    last = now;
    if (past > longest) past = longest; /* frozen in between: goes on, does not catch up */
    owed += (double)rate * (double)past / 1e9;
    uint64_t more = rate ? (uint64_t)owed : size - have;
    if (more > size - have) more = size - have;
    if (more && take(fd, device, more)) break;
    owed -= rate ? (double)more : 0;
    have += more;
    if (o->lock_up_at && !locked && have >= o->lock_up_at) {
      locked = 1;
      call(fd, SIM_LOCKUP, device, (uint64_t)o->persistent, o->xid, NULL, &reply);
    }
    if (have >= size && !locked) break;
  }
  wait_for_hangup(fd);
}

/* --size --rate [--start-size] [--start-when FILE: grows once it is there] [--start-after-ms]
 * [--late-load N: instead of --load, from when it grows]
 * [--step-ms] [--children N: that many more processes share size and rate] [--lock-up-at BYTES
 * [--persistent] [--xid N]] [--zombie-s N: a forked child keeps the connection for so long] */
int run_hog(const struct options *o) {
  uint32_t shares = o->children + 1;
  for (uint32_t i = 0; i < o->children; i++) {
    pid_t child = fork();
    if (child < 0) fail("fork failed");
    if (!child) {
      struct options mine = *o;
      mine.lock_up_at = 0;
      mine.start_size /= shares;
      mine.children = 0;
      grow(&mine, o->size / shares, o->rate / shares);
      _exit(1);
    }
  }
  struct options mine = *o;
  mine.start_size /= shares;
  if (mine.lock_up_at) mine.lock_up_at /= shares;
  grow(&mine, o->size / shares, o->rate / shares);
  return 1;
}
