/* Connections on driver.sock. Clients are hostile: every message is checked in full before a word
 * of it is used, and a malformed one ends the connection. */
#define _GNU_SOURCE
#include "driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGES_A_ROUND 64 /* of one client, before the others have their turn */

void accept_clients(int listener) {
  for (int n = 0; n < 64; n++) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    uint32_t slot = 0;
    while (slot < driver.client_top && driver.clients[slot].fd >= 0) slot++;
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (slot >= MAX_CLIENTS || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ||
        peer.pid <= 0) {
      driver.stats.clients_refused++;
      close(fd);
      continue;
    }
    driver.clients[slot] =
        (struct client){.fd = fd, .pid = peer.pid, .uid = peer.uid, .kind = SIM_COMPUTE};
    if (slot >= driver.client_top) driver.client_top = slot + 1;
    if (watch(fd, WATCH_CLIENT, slot, EPOLLIN)) close_client(slot);
  }
}

void close_client(uint32_t index) {
  struct client *c = &driver.clients[index];
  if (c->fd < 0) return;
  pid_t pid = c->pid;
  int worked = c->role == SIM_ROLE_WORKLOAD;
  drop_launches(index);
  release_holdings(index);
  close(c->fd);
  c->fd = -1;
  while (driver.client_top && driver.clients[driver.client_top - 1].fd < 0) driver.client_top--;
  if (worked) offender_gone(pid);
}

/* A client that does not take its answers loses its connection: nothing is queued for it here. */
int send_reply(uint32_t index, const struct sim_reply *reply) {
  ssize_t n = send(driver.clients[index].fd, reply, sizeof *reply, MSG_DONTWAIT | MSG_NOSIGNAL);
  return n == (ssize_t)sizeof *reply ? 0 : -1;
}

/* "3", "GPU-..." or "MIG-..." -> record | instance << 8; NVML indices, as in a container's
 * environment. */
static uint32_t resolve(const char *text, uint32_t *device) {
  struct sim_state *s = driver.state;
  char *end;
  unsigned long index = strtoul(text, &end, 10);
  if (end != text && !*end) {
    if (index >= s->device_count) return NVML_ERROR_NOT_FOUND;
    *device = atomic_load(&s->order[index]);
    return NVML_SUCCESS;
  }
  for (uint32_t d = 0; d < s->device_count; d++) {
    if (!strcmp(text, s->devices[d].id.uuid)) {
      *device = d;
      return NVML_SUCCESS;
    }
    for (uint32_t m = 0; m < SIM_MAX_MIG; m++)
      if (s->devices[d].mig[m].in_use && !strcmp(text, s->devices[d].mig[m].uuid)) {
        *device = d | (m + 1) << 8;
        return NVML_SUCCESS;
      }
  }
  return NVML_ERROR_NOT_FOUND;
}

static uint32_t set_mode(const struct client *c, uint32_t record, uint64_t mode, uint64_t value) {
  struct sim_device *dev = public_of(record);
  if (c->uid != 0 && c->uid != driver.uid) return NVML_ERROR_NO_PERMISSION;
  switch (mode) {
    case SIM_MODE_PERSISTENCE:
      if (value > 1) return NVML_ERROR_INVALID_ARGUMENT;
      WRITE(dev, dev->persistence = (uint32_t)value);
      return NVML_SUCCESS;
    case SIM_MODE_ACCOUNTING:
      if (value > 1) return NVML_ERROR_INVALID_ARGUMENT;
      WRITE(dev, dev->accounting_mode = (uint32_t)value);
      return NVML_SUCCESS;
    case SIM_MODE_ACCOUNTING_CLEAR: WRITE(dev, dev->accounting_count = 0); return NVML_SUCCESS;
    case SIM_MODE_COMPUTE:
      if (value > 3) return NVML_ERROR_INVALID_ARGUMENT;
      WRITE(dev, dev->compute_mode = (uint32_t)value);
      return NVML_SUCCESS;
    case SIM_MODE_ECC:
      if (value > 1) return NVML_ERROR_INVALID_ARGUMENT;
      WRITE(dev, dev->ecc_pending = (uint32_t)value); /* in force after a reset */
      return NVML_SUCCESS;
    case SIM_MODE_POWER_LIMIT:
      if (value < dev->id.power_min_mw || value > dev->id.power_max_mw)
        return NVML_ERROR_INVALID_ARGUMENT;
      WRITE(dev, dev->power_limit_mw = (uint32_t)value);
      return NVML_SUCCESS;
    default: return NVML_ERROR_INVALID_ARGUMENT;
  }
}

static uint32_t held_change(uint32_t index, uint32_t record, uint32_t mig, int64_t change,
                            struct sim_reply *reply) {
  uint32_t status = change_holding(index, record, mig, change);
  reply->a = driver.clients[index].bytes[record][mig];
  return status;
}

/* Returns 1 when the answer comes later, -1 when the connection must end. */
static int answer(uint32_t index, const struct sim_request *q, const char *text,
                  struct sim_reply *reply) {
  struct client *c = &driver.clients[index];
  if (q->op == SIM_HELLO) {
    if (c->role || q->a < SIM_ROLE_WORKLOAD || q->a > SIM_ROLE_EVENTS) return -1;
    if (!atomic_load(&driver.state->loaded)) {
      reply->status = NVML_ERROR_DRIVER_NOT_LOADED;
      return 0;
    }
    c->role = (uint32_t)q->a;
    uint32_t kinds = (uint32_t)q->b & (SIM_COMPUTE | SIM_GRAPHICS | SIM_MPS);
    if (kinds) c->kind = kinds;
    return 0;
  }
  if (!c->role) return -1;
  if (q->op == SIM_RESOLVE) {
    reply->status = resolve(text, &reply->device);
    return 0;
  }
  uint32_t record = q->device & 0xff, mig = q->device >> 8;
  if (record >= driver.state->device_count || mig > SIM_MAX_MIG ||
      (mig && !public_of(record)->mig[mig - 1].in_use)) {
    reply->status = NVML_ERROR_INVALID_ARGUMENT;
    return 0;
  }
  int workload = c->role == SIM_ROLE_WORKLOAD;
  switch (q->op) {
    case SIM_ALLOC:
    case SIM_FREE:
      if (!workload || q->a > INT64_MAX) return -1;
      reply->status = held_change(index, record, mig,
                                  q->op == SIM_ALLOC ? (int64_t)q->a : -(int64_t)q->a, reply);
      return 0;
    case SIM_LOAD:
      if (!workload || q->a > 8 * FULL_DEMAND) return -1;
      set_load(index, record, (uint32_t)q->a);
      return 0;
    case SIM_LAUNCH:
      if (!workload) return -1;
      reply->status = launch(index, record, q->tag, q->a, q->b);
      return reply->status == NVML_SUCCESS;
    case SIM_LOCKUP:
      if (!workload || q->a > 1 || q->b > 999) return -1;
      lock_up(record, c->pid, (int)q->a, (uint32_t)q->b);
      return 0;
    case SIM_EVENTS:
      if (c->role != SIM_ROLE_EVENTS) return -1;
      if (q->a & ~public_of(record)->id.event_mask)
        reply->status = NVML_ERROR_NOT_SUPPORTED;
      else
        c->events[record] |= q->a;
      return 0;
    case SIM_LIMIT_SET: reply->status = set_limit(index, record, q->a, q->b, text); return 0;
    case SIM_LIMIT_GET: reply->status = get_limit(record, text, reply); return 0;
    case SIM_LIMIT_MINE: reply->a = limit_of(index, record); return 0;
    case SIM_SET_MODE: reply->status = set_mode(c, record, q->a, q->b); return 0;
    default: return -1;
  }
}

static int well_formed(const struct sim_request *q, const char *text, size_t length) {
  return length >= sizeof *q && q->magic == SIM_PROTOCOL && q->text_length == length - sizeof *q &&
         q->text_length <= SIM_MAX_TEXT && !memchr(text, 0, q->text_length);
}

void serve_client(uint32_t index) {
  static union {
    struct sim_request request;
    char bytes[sizeof(struct sim_request) + SIM_MAX_TEXT + 1];
  } in;
  for (int n = 0; n < MESSAGES_A_ROUND; n++) {
    struct client *c = &driver.clients[index];
    if (c->fd < 0) return;
    ssize_t got = recv(c->fd, in.bytes, sizeof in.bytes - 1, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      close_client(index);
      return;
    }
    char *text = in.bytes + sizeof in.request;
    if ((size_t)got > sizeof in.bytes - 1 || !well_formed(&in.request, text, (size_t)got)) {
      driver.stats.malformed++;
      close_client(index);
      return;
    }
    text[in.request.text_length] = 0;
    struct sim_reply reply = {.magic = SIM_PROTOCOL,
                              .op = in.request.op,
                              .tag = in.request.tag,
                              .device = in.request.device};
    int later = answer(index, &in.request, text, &reply);
    if (later < 0) driver.stats.malformed++;
    if (later < 0 || (!later && send_reply(index, &reply))) {
      close_client(index);
      return;
    }
  }
}
