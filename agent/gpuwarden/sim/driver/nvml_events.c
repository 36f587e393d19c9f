/* Event sets: a connection each, on which the driver sends what happens. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "nvml_lib.h"

#define MAX_SETS 64

struct sim_event_set {
  int fd;
  int in_use;
};
static struct sim_event_set sets[MAX_SETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct sim_event_set *checked(nvmlEventSet_t set) {
  uintptr_t p = (uintptr_t)set, first = (uintptr_t)sets;
  if (p < first || p >= first + sizeof sets || (p - first) % sizeof *sets) return NULL;
  return set->in_use ? set : NULL;
}

NVML_API nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *out) {
  ENTER(nvmlEventSetCreate);
  NEED(out);
  int fd = driver_connect(SIM_ROLE_EVENTS);
  if (fd < 0) return NVML_ERROR_DRIVER_NOT_LOADED;
  pthread_mutex_lock(&lock);
  struct sim_event_set *free_set = NULL;
  for (int i = 0; i < MAX_SETS && !free_set; i++)
    if (!sets[i].in_use) free_set = &sets[i];
  if (free_set) *free_set = (struct sim_event_set){fd, 1};
  pthread_mutex_unlock(&lock);
  if (!free_set) {
    close(fd);
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
  }
  *out = free_set;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
  ENTER(nvmlEventSetFree);
  pthread_mutex_lock(&lock);
  struct sim_event_set *s = checked(set);
  if (s) {
    close(s->fd);
    s->in_use = 0;
  }
  pthread_mutex_unlock(&lock);
  return s ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, u64_t *out) {
  DEVICE(nvmlDeviceGetSupportedEventTypes);
  NEED(out);
  *out = t.mig ? 0 : t.dev->id.event_mask;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, u64_t mask,
                                               nvmlEventSet_t set) {
  DEVICE(nvmlDeviceRegisterEvents);
  struct sim_event_set *s = checked(set);
  if (!s) return NVML_ERROR_INVALID_ARGUMENT;
  if (t.mig || (mask & ~t.dev->id.event_mask)) return NVML_ERROR_NOT_SUPPORTED;
  struct sim_request request = {
      .magic = SIM_PROTOCOL, .op = SIM_EVENTS, .device = t.record, .a = mask};
  return send_request(s->fd, &request, NULL) ? NVML_ERROR_UNKNOWN : NVML_SUCCESS;
}

static long long now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Blocks for the whole timeout: a call that came back early would make its caller spin. */
static nvmlReturn_t wait_event(nvmlEventSet_t set, event_data_t *out, u32_t timeout_ms) {
  struct sim_event_set *s = checked(set);
  if (!s || !out) return NVML_ERROR_INVALID_ARGUMENT;
  long long end = now_ms() + timeout_ms;
  for (;;) {
    long long left = end - now_ms();
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    int n = poll(&p, 1, left < 0 ? 0 : left > 0x7fffffff ? 0x7fffffff : (int)left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return NVML_ERROR_UNKNOWN;
    if (n == 0) {
      if (now_ms() >= end) return NVML_ERROR_TIMEOUT;
      continue;
    }
    struct sim_reply reply;
    ssize_t got = recv(s->fd, &reply, sizeof reply, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got != (ssize_t)sizeof reply) return NVML_ERROR_UNKNOWN; /* the driver is gone */
    if (reply.op != SIM_EVENT || reply.device >= sim_state()->device_count) continue;
    *out = (event_data_t){handle_of(reply.device, 0), reply.a, reply.b, (u32_t)(reply.c >> 32),
                          (u32_t)reply.c};
    return NVML_SUCCESS;
  }
}
NVML_API nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, event_data_t *out, u32_t timeout_ms) {
  ENTER(nvmlEventSetWait_v2);
  return wait_event(set, out, timeout_ms);
}
NVML_API nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, void *out, u32_t timeout_ms) {
  ENTER(nvmlEventSetWait);
  NEED(out);
  event_data_t full;
  nvmlReturn_t r = wait_event(set, &full, timeout_ms);
  if (!r) memcpy(out, &full, offsetof(event_data_t, gi)); /* the first version ends there */
  return r;
}
