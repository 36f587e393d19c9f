/* Work on a device: launches share it in proportion to their demand, so that each one takes
 * longer when others ask for more than the device has, and nothing completes while the device is
 * locked up. A steady load is demand without an end. */
#define _GNU_SOURCE
#include "driver.h"

#include <sys/socket.h>

static uint32_t demand_on(const struct device *d) {
  uint32_t sum = d->load;
  for (uint32_t i = 0; i < d->launch_count; i++) sum += d->launches[i].demand;
  return sum;
}

/* Progress of each launch per unit of time; at most 1. */
static double rate(uint32_t record) {
  const struct sim_device *dev = public_of(record);
  if (dev->locked_up || dev->lost) return 0;
  uint32_t demand = demand_on(&driver.devices[record]);
  return demand <= FULL_DEMAND ? 1 : (double)FULL_DEMAND / demand;
}

/* Accounts the time since the last change of what runs on the device. */
void advance(uint32_t record, uint64_t now) {
  struct device *d = &driver.devices[record];
  const struct sim_device *dev = public_of(record);
  if (now <= d->advanced_ns) return;
  double us = (double)(now - d->advanced_ns) / 1000, speed = rate(record), work = 0;
  d->advanced_ns = now;
  for (uint32_t i = 0; i < d->launch_count; i++) {
    struct launch *l = &d->launches[i];
    double done = us * speed;
    l->left_us -= done;
    double share = done * l->demand / FULL_DEMAND;
    driver.clients[l->client].work_us[record] += share;
    work += share;
  }
  if (d->load) {
    for (uint32_t i = 0; i < driver.client_top; i++) {
      struct client *c = &driver.clients[i];
      if (c->fd < 0 || !c->load[record]) continue;
      double share = us * speed * c->load[record] / FULL_DEMAND;
      c->work_us[record] += share;
      work += share;
    }
  }
  double steady = d->load > FULL_DEMAND ? 1 : (double)d->load / FULL_DEMAND;
  d->busy_us += dev->lost ? 0 : us * (dev->locked_up || d->launch_count ? 1 : steady);
  d->work_us += work > us ? us : work;
}

static void arm(void) {
  uint64_t next = 0;
  for (uint32_t r = 0; r < driver.state->device_count; r++) {
    const struct device *d = &driver.devices[r];
    double speed = rate(r), least = -1;
    if (speed <= 0) continue;
    for (uint32_t i = 0; i < d->launch_count; i++)
      if (least < 0 || d->launches[i].left_us < least) least = d->launches[i].left_us;
    if (least < 0) continue;
    uint64_t at = d->advanced_ns + 1000 + (uint64_t)((least > 0 ? least : 0) * 1000 / speed);
    if (!next || at < next) next = at;
  }
  arm_launch_timer(next);
}

static void finish(uint32_t record, uint32_t at, uint32_t status) {
  struct device *d = &driver.devices[record];
  struct launch done = d->launches[at];
  d->launches[at] = d->launches[--d->launch_count];
  driver.clients[done.client].launches--;
  struct sim_reply reply = {
      .magic = SIM_PROTOCOL, .op = SIM_LAUNCH, .tag = done.tag, .status = status, .device = record};
  if (send_reply(done.client, &reply)) { /* it takes no answers: its hang-up is handled in turn */
    driver.stats.replies_dropped++;
    shutdown(driver.clients[done.client].fd, SHUT_RDWR);
  }
}

void complete_launches(void) {
  uint64_t now = monotonic_ns();
  for (uint32_t r = 0; r < driver.state->device_count; r++) {
    struct device *d = &driver.devices[r];
    if (!d->launch_count) continue;
    advance(r, now);
    for (uint32_t i = d->launch_count; i-- > 0;)
      if (d->launches[i].left_us <= 0) finish(r, i, NVML_SUCCESS);
  }
  arm();
}

uint32_t launch(uint32_t client, uint32_t record, uint64_t tag, uint64_t us, uint64_t demand) {
  struct client *c = &driver.clients[client];
  struct device *d = &driver.devices[record];
  if (!us || us > 3600000000ull || !demand || demand > 100 * FULL_DEMAND)
    return NVML_ERROR_INVALID_ARGUMENT;
  if (public_of(record)->lost) return NVML_ERROR_GPU_IS_LOST;
  if (c->launches >= SIM_MAX_LAUNCHES || d->launch_count >= MAX_LAUNCHES) {
    driver.stats.launches_refused++;
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
  }
  advance(record, monotonic_ns());
  d->launches[d->launch_count++] = (struct launch){client, (uint32_t)demand, tag, (double)us};
  c->launches++;
  arm();
  return NVML_SUCCESS;
}

void set_load(uint32_t client, uint32_t record, uint32_t demand) {
  struct client *c = &driver.clients[client];
  advance(record, monotonic_ns());
  driver.devices[record].load += demand - c->load[record];
  c->load[record] = demand;
  arm();
}

void drop_launches(uint32_t client) {
  if (!driver.clients[client].launches) return;
  for (uint32_t r = 0; r < driver.state->device_count; r++) {
    struct device *d = &driver.devices[r];
    advance(r, monotonic_ns());
    for (uint32_t i = d->launch_count; i-- > 0;)
      if (d->launches[i].client == client) d->launches[i] = d->launches[--d->launch_count];
  }
  driver.clients[client].launches = 0;
  arm();
}

void fail_launches(uint32_t record, uint32_t status) {
  advance(record, monotonic_ns());
  while (driver.devices[record].launch_count)
    finish(record, driver.devices[record].launch_count - 1, status);
  arm();
}
