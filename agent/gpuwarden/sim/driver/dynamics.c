/* What moves by itself: utilisation, clocks, power, temperature, traffic, throttling, samples. */
#define _GNU_SOURCE
#include "driver.h"

#include <math.h>

#define TICK_US (TICK_MS * 1000.0)
#define SMOOTHING 0.3       /* weight of the newest tick: settles within half a second */
#define THERMAL_TIME_S 12.0 /* a board follows its power with this time constant */
#define MIG_SLICES 7.0      /* compute slices of a whole device */
#define AMBIENT_C 27.0

/* -1..1, the same for the same seed, device and tick. */
static double noise(uint32_t record, uint64_t what) {
  return (double)(draw(driver.seed, driver.tick * 64 + what, record) >> 11) / 4503599627370496.0 -
         1;
}
static double clamp(double v, double low, double high) {
  return v < low ? low : v > high ? high : v;
}

/* A percentage on its way to `target`: what a driver averages over its sampling window. */
static uint32_t follow(uint32_t now, double target) {
  double gap = target - now;
  return (uint32_t)lround(clamp(fabs(gap) < 3 ? target : now + SMOOTHING * gap, 0, 100));
}

/* What a client did counts for the instance that holds its bytes, as a share of that instance. */
static void of_instance(struct sim_device *dev, const uint64_t *bytes, double work, double us) {
  for (uint32_t m = 0; m < SIM_MAX_MIG; m++) {
    struct sim_mig *mig = &dev->mig[m];
    if (!mig->in_use || !mig->slices || !bytes[m + 1]) continue; /* 0: whole device */
    mig->work_us += clamp(work * MIG_SLICES / mig->slices, 0, us);
    return;
  }
}

static void process_shares(uint32_t record, double us) {
  struct sim_device *dev = public_of(record);
  uint64_t now = realtime_us();
  for (uint32_t i = 0; i < dev->proc_count; i++) {
    struct sim_proc *p = &dev->procs[i];
    double work = 0;
    for (uint32_t k = 0; k < driver.client_top; k++) {
      struct client *c = &driver.clients[k];
      if (c->fd >= 0 && (uint32_t)c->pid == p->pid && c->work_us[record] > 0) {
        work += c->work_us[record];
        of_instance(dev, c->bytes[record], c->work_us[record], us);
        c->work_us[record] = 0;
      }
    }
    double percent = clamp(100 * work / us, 0, 100);
    p->sm = follow(p->sm, percent);
    p->mem = p->sm * 6 / 10;
    p->util_at_us = now;
  }
}

/* Utilisation and what follows from it at once. */
static void load_of(uint32_t record, double us, struct device *d, struct sim_device *dev) {
  double busy = clamp(100 * d->busy_us / us, 0, 100), work = clamp(100 * d->work_us / us, 0, 100);
  if (dev->locked_up) work = 100; /* a stuck kernel counts as running */
  dev->busy_us += d->busy_us;
  dev->sm_us += d->work_us;
  dev->mem_us += d->work_us * 0.6;
  dev->integral_at_us = realtime_us();
  d->busy_us = d->work_us = 0;
  double target = clamp(busy + (busy > 0 && busy < 100 ? 2 * noise(record, 1) : 0), 0, 100);
  dev->gpu_util = follow(dev->gpu_util, target);
  dev->mem_util = (uint32_t)lround(0.6 * dev->gpu_util * (0.5 + work / 200));
}

static void clocks_and_power(uint32_t record, struct device *d, struct sim_device *dev) {
  const struct sim_identity *id = &dev->id;
  int active = dev->proc_count > 0 || dev->locked_up;
  double load = dev->gpu_util / 100.0, scale = active ? 1 : 0;
  uint64_t reasons = d->forced_reasons;
  double want =
      id->power_idle_mw + (id->power_max_mw - (double)id->power_idle_mw) * pow(load, 0.8) * 0.97;
  want += want * 0.01 * noise(record, 2);
  uint32_t limit = dev->power_limit_mw;
  if (dev->power_held_mw && dev->power_held_mw < limit) limit = dev->power_held_mw;
  if (want > limit) {
    want = limit;
    reasons |= 0x4; /* software power cap */
    scale *= 0.9;
  }
  if (dev->temp_c >= id->temp_slowdown_c)
    reasons |= 0x8 | 0x40; /* hardware, thermal */
  else if (dev->temp_c >= id->temp_gpu_max_c)
    reasons |= 0x20;                /* software, thermal */
  if (reasons & 0xe8) scale *= 0.5; /* hardware slowdown, thermal, power brake */
  if (!active && !reasons) reasons = 1;
  for (int k = 0; k < 4; k++) {
    uint32_t low = id->clock_idle[k], high = id->clock_max[k];
    dev->clock[k] = k == 2 && active ? high : low + (uint32_t)((high - low) * (active ? scale : 0));
  }
  dev->reasons = reasons;
  dev->pstate = active ? 0 : 8;
  dev->power_instant_mw = (uint32_t)want;
  dev->power_mw = (uint32_t)(dev->power_mw + 0.2 * (want - dev->power_mw));
  dev->energy_mj += (uint64_t)(dev->power_instant_mw * (TICK_MS / 1000.0));
  static const uint64_t bits[6] = {0x4, 0x10, 0x20, 0x40, 0x80, 0x8};
  for (int k = 0; k < 6; k++)
    if (reasons & bits[k]) dev->reason_ns[k] += TICK_MS * 1000000ull;
}

static void heat(uint32_t record, struct device *d, struct sim_device *dev) {
  const struct sim_identity *id = &dev->id;
  double full = id->temp_gpu_max_c - 12; /* at full power, with the cooling as it should be */
  double aim = AMBIENT_C + (full - AMBIENT_C) * dev->power_instant_mw / id->power_max_mw;
  d->temp_c += (aim - d->temp_c) * (TICK_MS / 1000.0) / THERMAL_TIME_S;
  double shown = d->forced_temp_c ? d->forced_temp_c : d->temp_c + 0.4 * noise(record, 3);
  dev->temp_c = (int32_t)lround(shown);
  dev->mem_temp_c = dev->temp_c + 6;
  if (id->fans) dev->fan_percent = (uint32_t)clamp(30 + (dev->temp_c - 40) * 1.6, 30, 100);
}

static void traffic(uint32_t record, struct sim_device *dev) {
  double load = dev->gpu_util / 100.0, seconds = TICK_MS / 1000.0;
  double lanes = (double)dev->pcie_width * (dev->id.pcie_gen_max >= 5 ? 3.9e6 : 1.97e6) /
                 2; /* KB/s each way */
  dev->pcie_gen =
      dev->proc_count ? dev->id.pcie_gen_max : 1; /* drops at idle by design; the width must not */
  uint32_t most = driver.devices[record].forced_pcie_gen;
  if (most && most < dev->pcie_gen) dev->pcie_gen = most;
  dev->pcie_tx_kbps = (uint32_t)(lanes * 0.05 * load * (1 + 0.1 * noise(record, 4)));
  dev->pcie_rx_kbps = (uint32_t)(lanes * 0.08 * load * (1 + 0.1 * noise(record, 5)));
  dev->pcie_tx_bytes += (uint64_t)(dev->pcie_tx_kbps * 1000.0 * seconds);
  dev->pcie_rx_bytes += (uint64_t)(dev->pcie_rx_kbps * 1000.0 * seconds);
  for (uint32_t l = 0; l < dev->id.link_count; l++) {
    if (!dev->link_up[l]) continue;
    uint64_t kib = (uint64_t)(dev->id.link_mbps * 1000.0 * 0.1 * load * seconds);
    dev->link_tx_kib[l] += kib;
    dev->link_rx_kib[l] += kib;
  }
}

static void sample(struct sim_device *dev) {
  dev->samples[dev->sample_next] =
      (struct sim_sample){realtime_us(), dev->power_instant_mw, dev->gpu_util,
                          dev->mem_util, dev->enc_util,         dev->dec_util,
                          dev->clock[1], dev->clock[2],         0};
  dev->sample_next = (dev->sample_next + 1) % SIM_SAMPLES;
  if (dev->sample_count < SIM_SAMPLES) dev->sample_count++;
}

void tick(void) {
  uint64_t now = monotonic_ns();
  static uint64_t last_ns;
  double us = last_ns ? (double)(now - last_ns) / 1000 : TICK_US;
  last_ns = now;
  driver.tick++;
  atomic_store(&driver.state->heartbeat_ns, now);
  if (driver.load_at_ns && now >= driver.load_at_ns) {
    driver.load_at_ns = 0;
    atomic_fetch_add(&driver.state->generation, 1);
    atomic_store(&driver.state->loaded, 1);
    kernel_line(0, 6,
                "nvidia-modeset: Loading NVIDIA Kernel Mode Setting Driver for UNIX platforms "
                " " DRIVER_VERSION);
  }
  for (uint32_t r = 0; r < driver.state->device_count; r++) {
    struct device *d = &driver.devices[r];
    struct sim_device *dev = public_of(r);
    advance(r, now);
    if (dev->lost) {
      d->busy_us = d->work_us = 0;
      continue;
    }
    WRITE(dev, {
      load_of(r, us, d, dev);
      clocks_and_power(r, d, dev);
      heat(r, d, dev);
      traffic(r, dev);
      if (driver.tick % 2 == 0) sample(dev);
      if (driver.tick % 2 == 0) process_shares(r, 2 * us);
    });
  }
  if (driver.tick % 10 == 0) sweep_limits();
}
