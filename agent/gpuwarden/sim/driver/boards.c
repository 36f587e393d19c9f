/* The boards: what each profile is made of, and what the seed decides about each device. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (1024ull * 1024)

struct profile {
  const char *key, *name, *part_number, *vbios, *inforom;
  uint64_t total_mib, reserved_mib, bar1_mib;
  uint32_t pci_id, subsystem, brand, architecture, cc_major, cc_minor, sm, cores, bus_bits;
  uint32_t clock_max[4], clock_idle[4]; /* graphics, SM, memory, video, MHz */
  uint32_t idle_w, min_w, max_w;
  int shutdown_c, slowdown_c, mem_max_c, gpu_max_c;
  uint32_t pcie_gen, links, link_version, link_mbps;
  int row_remap, retired_pages, gpm, fabric, mig, mem_temp, gsp;
};

/* Sizes, limits, clocks and ids as the boards report them. */
static const struct profile profiles[] = {
    {"A100-40",
     "NVIDIA A100-SXM4-40GB",
     "692-2G506-0200-003",
     "92.00.45.00.03",
     "G506.0200.00.04",
     40960,
     602,
     65536,
     0x20b010de,
     0x134f10de,
     14,
     7,
     8,
     0,
     108,
     6912,
     5120,
     {1410, 1410, 1215, 1290},
     {210, 210, 1215, 585},
     45,
     100,
     400,
     92,
     89,
     95,
     85,
     4,
     12,
     5,
     25000,
     1,
     0,
     0,
     0,
     1,
     1,
     0},
    {"H100-80",
     "NVIDIA H100 80GB HBM3",
     "692-2G520-0200-000",
     "96.00.74.00.01",
     "G520.0200.00.05",
     81559,
     551,
     131072,
     0x233010de,
     0x16c110de,
     14,
     9,
     9,
     0,
     132,
     16896,
     5120,
     {1980, 1980, 2619, 1545},
     {345, 345, 2619, 765},
     70,
     200,
     700,
     92,
     89,
     95,
     87,
     5,
     18,
     6,
     26562,
     1,
     0,
     1,
     1,
     1,
     1,
     1},
    {"H200-141",
     "NVIDIA H200",
     "692-2G520-0280-000",
     "96.00.AA.00.01",
     "G520.0280.00.03",
     143771,
     588,
     262144,
     0x233510de,
     0x18be10de,
     14,
     9,
     9,
     0,
     132,
     16896,
     6144,
     {1980, 1980, 3201, 1545},
     {345, 345, 3201, 765},
     75,
     200,
     700,
     92,
     89,
     95,
     87,
     5,
     18,
     6,
     26562,
     1,
     0,
     1,
     1,
     1,
     1,
     1},
    {"L4",
     "NVIDIA L4",
     "900-2G193-0000-000",
     "95.04.29.00.06",
     "G193.0200.00.01",
     23034,
     384,
     32768,
     0x27b810de,
     0x16ca10de,
     14,
     8,
     8,
     9,
     58,
     7424,
     192,
     {2040, 2040, 6251, 1770},
     {210, 210, 405, 1185},
     12,
     40,
     72,
     98,
     95,
     100,
     83,
     4,
     0,
     0,
     0,
     1,
     0,
     0,
     0,
     0,
     0,
     1},
    {"T4",
     "Tesla T4",
     "900-2G183-0000-001",
     "90.04.38.00.03",
     "G183.0200.00.02",
     15360,
     267,
     256,
     0x1eb810de,
     0x12a210de,
     2,
     6,
     7,
     5,
     40,
     2560,
     256,
     {1590, 1590, 5001, 1470},
     {300, 300, 405, 540},
     9,
     60,
     70,
     96,
     93,
     0,
     85,
     3,
     0,
     0,
     0,
     0,
     1,
     0,
     0,
     0,
     0,
     0},
};
#define PROFILES (sizeof profiles / sizeof *profiles)

const char *board_profiles(void) {
  return "A100-40, H100-80, H200-141, L4, T4";
}

/* splitmix64 over the three words. */
uint64_t draw(uint64_t seed, uint64_t a, uint64_t b) {
  uint64_t z = seed * 0x9e3779b97f4a7c15ull + a * 0xbf58476d1ce4e5b9ull +
               b * 0x94d049bb133111ebull + 0x2545f4914f6cdd1dull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

static void make_uuid(const char *prefix, uint64_t high, uint64_t low, char *out, size_t size) {
  snprintf(out, size, "%s%08x-%04x-%04x-%04x-%012llx", prefix, (unsigned)(high >> 32),
           (unsigned)(high >> 16) & 0xffff, (unsigned)high & 0xffff, (unsigned)(low >> 48),
           (unsigned long long)(low & 0xffffffffffffull));
}

/* Bus numbers of an eight-way board, then of a second one. */
static const uint32_t buses[SIM_MAX_DEVICES] = {0x07, 0x0f, 0x47, 0x4e, 0x87, 0x90, 0xb7, 0xbd,
                                                0x1b, 0x29, 0x3b, 0x5d, 0x9a, 0xa5, 0xc1, 0xd9};

static void make_identity(struct sim_identity *id, const struct profile *p, uint32_t i,
                          uint32_t fans) {
  snprintf(id->name, sizeof id->name, "%s", p->name);
  make_uuid("GPU-", draw(driver.seed, 1, i), draw(driver.seed, 2, i), id->uuid, sizeof id->uuid);
  snprintf(id->serial, sizeof id->serial, "%013llu",
           (unsigned long long)(1320000000000ull + draw(driver.seed, 3, i) % 9999999999ull));
  snprintf(id->part_number, sizeof id->part_number, "%s", p->part_number);
  snprintf(id->vbios, sizeof id->vbios, "%s", p->vbios);
  snprintf(id->inforom, sizeof id->inforom, "%s", p->inforom);
  if (p->gsp) snprintf(id->gsp, sizeof id->gsp, "%s", DRIVER_VERSION);
  id->pci_bus = buses[i];
  id->pci_id = p->pci_id;
  id->pci_subsystem = p->subsystem;
  id->minor = i;
  id->module_id = i % 8 + 1;
  id->numa_node = (i % 8) / 4;
  id->brand = p->brand;
  id->architecture = p->architecture;
  id->cc_major = p->cc_major;
  id->cc_minor = p->cc_minor;
  id->cores = p->cores;
  id->sm_count = p->sm;
  id->bus_width_bits = p->bus_bits;
  id->total = p->total_mib * MIB;
  id->reserved = p->reserved_mib * MIB;
  id->bar1_total = p->bar1_mib * MIB;
  memcpy(id->clock_max, p->clock_max, sizeof id->clock_max);
  memcpy(id->clock_idle, p->clock_idle, sizeof id->clock_idle);
  id->power_idle_mw = p->idle_w * 1000;
  id->power_min_mw = p->min_w * 1000;
  id->power_max_mw = id->power_default_mw = p->max_w * 1000;
  id->temp_shutdown_c = p->shutdown_c;
  id->temp_slowdown_c = p->slowdown_c;
  id->temp_mem_max_c = p->mem_max_c;
  id->temp_gpu_max_c = p->gpu_max_c;
  id->pcie_gen_max = p->pcie_gen;
  id->pcie_width_max = 16;
  id->link_count = p->links;
  id->link_version = p->link_version;
  id->link_mbps = p->link_mbps;
  id->fans = fans;
  id->has_row_remap = (uint32_t)p->row_remap;
  id->has_retired_pages = (uint32_t)p->retired_pages;
  id->has_gpm = (uint32_t)p->gpm;
  id->has_fabric = (uint32_t)p->fabric;
  id->has_mig = (uint32_t)p->mig;
  id->has_mem_temp = (uint32_t)p->mem_temp;
  /* single- and double-bit ECC, P-state, Xid, clock; from Ampere on MIG and the health events too */
  id->event_mask = 0x1f | (p->architecture >= 7 ? 0xff80 : 0); /* an H100 says 0xff9f */
}

/* What a reset of the device or a reload of the driver starts afresh. */
void reset_volatile(uint32_t record) {
  struct sim_device *dev = public_of(record);
  WRITE(dev, {
    for (int type = 0; type < 2; type++) memset(dev->ecc[type][0], 0, sizeof dev->ecc[type][0]);
    memset(dev->reason_ns, 0, sizeof dev->reason_ns);
    memset(dev->link_errors, 0, sizeof dev->link_errors);
    dev->energy_mj = 0;
    dev->pcie_replays = dev->pcie_replay_rollovers = 0;
    if (dev->remap_pending) dev->remap_pending = 0;
    dev->retired_pending = 0;
  });
}

/* Five slices of three sizes, the mixed layout that sites use most. */
static void make_instances(struct sim_device *dev, uint32_t i) {
  static const uint32_t slices[] = {3, 2, 1, 1}, eighths[] = {4, 2, 1, 1}, profile[] = {2, 1, 0, 0},
                        gi[] = {2, 3, 9, 10};
  uint32_t start = 0;
  dev->mig_mode = dev->mig_pending = 1;
  for (uint32_t m = 0; m < sizeof slices / sizeof *slices; m++) {
    struct sim_mig *g = &dev->mig[m];
    *g = (struct sim_mig){.in_use = 1,
                          .gi = gi[m],
                          .ci = 0,
                          .profile = profile[m],
                          .slices = slices[m],
                          .sm_count = dev->id.sm_count * slices[m] / 7,
                          .placement_start = start,
                          .placement_size = eighths[m],
                          .total = dev->id.total / 8 * eighths[m],
                          .reserved = 16 * MIB};
    start += eighths[m];
    make_uuid("MIG-", draw(driver.seed, 10 + m, i), draw(driver.seed, 20 + m, i), g->uuid,
              sizeof g->uuid);
    snprintf(g->profile_name, sizeof g->profile_name, "%ug.%llugb", slices[m],
             (unsigned long long)((g->total / MIB + 512) / 1024));
  }
}

static int make_mig(const char *list, uint32_t count) {
  while (*list) {
    char *end;
    unsigned long i = strtoul(list, &end, 10);
    if (end == list || i >= count || (*end && *end != ',')) return -1;
    if (!public_of((uint32_t)i)->id.has_mig) return -1;
    make_instances(public_of((uint32_t)i), (uint32_t)i);
    list = *end ? end + 1 : end;
  }
  return 0;
}

int make_boards(const char *profile, uint32_t count, uint32_t fans, const char *mig_devices) {
  const struct profile *p = NULL;
  for (unsigned i = 0; i < PROFILES; i++)
    if (!strcmp(profiles[i].key, profile)) p = &profiles[i];
  if (!p) return -1;
  driver.state->device_count = count;
  for (uint32_t i = 0; i < count; i++) {
    struct sim_device *dev = public_of(i);
    atomic_store(&driver.state->order[i], i);
    make_identity(&dev->id, p, i, fans);
    dev->power_limit_mw = dev->id.power_default_mw;
    dev->power_mw = dev->power_instant_mw = dev->id.power_idle_mw;
    memcpy(dev->clock, dev->id.clock_idle, sizeof dev->clock);
    dev->pstate = 8;
    dev->reasons = 1;
    driver.devices[i].temp_c = 28 + (double)(draw(driver.seed, 4, i) % 80) / 10;
    dev->temp_c = (int32_t)driver.devices[i].temp_c;
    dev->mem_temp_c = dev->temp_c + 3;
    dev->fan_percent = fans ? 30 : 0;
    dev->pcie_gen = 1;
    dev->pcie_width = dev->id.pcie_width_max;
    dev->bar1_used = MIB;
    dev->ecc_mode = dev->ecc_pending = dev->persistence = 1;
    dev->ecc[0][1][2] = draw(driver.seed, 5, i) % 3; /* a few corrected errors in a board's life */
    dev->remap_banks[0] = p->row_remap ? 640 : 0;
    dev->integral_at_us = realtime_us();
    for (uint32_t l = 0; l < p->links; l++) dev->link_up[l] = 1;
    dev->fabric_state = p->fabric ? 3 : 0;          /* completed */
    dev->fabric_health_mask = p->fabric ? 0xaa : 0; /* each condition: false */
    driver.devices[i].advanced_ns = monotonic_ns();
  }
  return make_mig(mig_devices, count);
}
