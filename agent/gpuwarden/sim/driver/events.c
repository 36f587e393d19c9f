/* What the driver reports and suffers: events, Xids, lock-ups, lost devices, reloads. */
#define _GNU_SOURCE
#include "driver.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define EVENT_XID 0x8u
#define EVENT_UNAVAILABLE 0x4000u
#define EVENT_RECOVERY 0x8000u
#define LOCKUP_XID \
  119 /* a call to the board's firmware got no answer in time: scope gpu, reset \
       */

void raise_event(uint32_t record, uint64_t type, uint64_t data, uint32_t mig) {
  const struct sim_device *dev = public_of(record);
  uint64_t gi = SIM_NO_INSTANCE, ci = SIM_NO_INSTANCE;
  if (mig && mig <= SIM_MAX_MIG) {
    gi = dev->mig[mig - 1].gi;
    ci = dev->mig[mig - 1].ci;
  }
  struct sim_reply event = {.magic = SIM_PROTOCOL,
                            .op = SIM_EVENT,
                            .device = record,
                            .a = type,
                            .b = data,
                            .c = gi << 32 | ci};
  for (uint32_t i = 0; i < driver.client_top; i++)
    if (driver.clients[i].fd >= 0 && (driver.clients[i].events[record] & type) &&
        send_reply(i, &event))
      driver.stats.events_dropped++;
}

static void process_name(pid_t pid, char *out, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
  snprintf(out, size, "<unknown>");
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t n = read(fd, out, size - 1);
  close(fd);
  if (n <= 0) return;
  out[n] = 0;
  out[strcspn(out, "\n")] = 0;
}

/* The text after "name=..., ", in the words of real logs. */
static const char *usual_text(uint32_t number) {
  static const struct {
    uint32_t number;
    const char *text;
  } texts[] = {
      {8, "Channel 00000008"},
      {13, "Graphics SM Warp Exception on (GPC 0, TPC 1, SM 0): Out Of Range Address"},
      {31,
       "Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_8 faulted @ "
       "0x73ac_1c000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_WRITE"},
      {43, "Ch 00000008"},
      {45, "Ch 00000008"},
      {48,
       "An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer at "
       "physAddr 0x18f31d80 partition 16, subpartition 3."},
      {62, "323f0f30 0000c3d8 00000000 206dae68 206da022 206da190 206d85f6 206d8d86"},
      {63,
       "Row Remapper: New row (0x0000000018f31d80) marked for remapping, reset gpu to activate."},
      {64, "Row Remapper: Failed to mark row (0x0000000018f31d80) for remapping."},
      {74, "NVLink: fatal error detected on link 2(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"},
      {79, "GPU has fallen off the bus."},
      {94, "Contained: SM (0x1). RST: No, D-RST: No"},
      {95, "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No"},
      {109, "Ch 00000020, errorString CTX SWITCH TIMEOUT, Info 0xac00d"},
      {119,
       "Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 "
       "(GSP_RM_CONTROL) (0x20800a4c 0x4)."},
      {140,
       "An uncorrectable ECC error detected (possible firmware handling failure) DRAM:-1840691462, "
       "LTC:0, MMU:0, PCIE:0"},
  };
  for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
    if (texts[i].number == number) return texts[i].text;
  return "Ch 00000008";
}

void raise_xid(uint32_t record, uint32_t number, pid_t pid, const char *text, uint32_t mig) {
  const struct sim_identity *id = &public_of(record)->id;
  char line[1024], who[96] = "pid='<unknown>', name=<unknown>, ", instance[24] = "";
  if (number == 79 && pid <= 0) who[0] = 0;
  if (pid > 0) {
    char name[32];
    process_name(pid, name, sizeof name);
    snprintf(who, sizeof who, "pid=%d, name=%s, ", (int)pid, name);
  }
  if (mig && mig <= SIM_MAX_MIG)
    snprintf(instance, sizeof instance, " GPU-I:%02u", public_of(record)->mig[mig - 1].gi % 100);
  snprintf(line, sizeof line, "NVRM: Xid (PCI:%04x:%02x:%02x%s): %u, %s%s", id->pci_domain & 0xffff,
           id->pci_bus & 0xff, id->pci_device & 0xff, instance, number, who,
           text && text[0] ? text : usual_text(number));
  kernel_line(0, 4, line);
  raise_event(record, EVENT_XID, number, mig);
}

void set_recovery_action(uint32_t record, uint32_t action) {
  static const char *const words[] = {"None",
                                      "GPU Reset Required",
                                      "Node Reboot Required",
                                      "Drain P2P",
                                      "Drain and Reset",
                                      "Recover IMEX Domain",
                                      "Bus Reset Required",
                                      "System Reboot Required"};
  struct sim_device *dev = public_of(record);
  uint32_t before = dev->recovery_action;
  if (action > 7 || action == before) return;
  WRITE(dev, dev->recovery_action = action);
  const struct sim_identity *id = &dev->id;
  char line[256];
  snprintf(line, sizeof line,
           "NVRM: Xid (PCI:%04x:%02x:%02x): 154, GPU recovery action changed from 0x%x (%s) to "
           "0x%x (%s)",
           id->pci_domain & 0xffff, id->pci_bus & 0xff, id->pci_device & 0xff, before,
           words[before & 7], action, words[action]);
  kernel_line(0, 4, line);
  raise_event(record, EVENT_XID, 154, 0);
  raise_event(record, EVENT_RECOVERY, action, 0);
}

void lock_up(uint32_t record, pid_t offender, int persistent, uint32_t xid) {
  struct sim_device *dev = public_of(record);
  advance(record, monotonic_ns());
  driver.devices[record].persistent_lockup = persistent;
  WRITE(dev, dev->locked_up = 1; dev->offender_pid = (uint32_t)offender);
  raise_xid(record, xid ? xid : LOCKUP_XID, offender, NULL, 0);
  if (persistent) set_recovery_action(record, 1);
}

void unlock(uint32_t record) {
  struct sim_device *dev = public_of(record);
  if (!dev->locked_up) return;
  advance(record, monotonic_ns());
  driver.devices[record].persistent_lockup = 0;
  WRITE(dev, dev->locked_up = 0; dev->offender_pid = 0);
  complete_launches();
}

void offender_gone(pid_t pid) {
  for (uint32_t r = 0; r < driver.state->device_count; r++) {
    const struct sim_device *dev = public_of(r);
    if (dev->locked_up && dev->offender_pid == (uint32_t)pid &&
        !driver.devices[r].persistent_lockup && !pid_holds(pid, r))
      unlock(r);
  }
}

void lose(uint32_t record) {
  struct sim_device *dev = public_of(record);
  advance(record, monotonic_ns());
  WRITE(dev, dev->lost = 1);
  raise_xid(record, 79, 0, NULL, 0);
  raise_event(record, EVENT_UNAVAILABLE, 0, 0);
  fail_launches(record, NVML_ERROR_GPU_IS_LOST);
}

/* A reset needs the device empty, as the real one does; 0 when it was done. */
int reset_device(uint32_t record, int force) {
  struct sim_device *dev = public_of(record);
  if (dev->proc_count && !force) return -1;
  if (force) {
    for (uint32_t i = 0; i < driver.client_top; i++) {
      const struct client *c = &driver.clients[i];
      int holds = 0;
      for (uint32_t m = 0; m <= SIM_MAX_MIG; m++) holds |= c->fd >= 0 && c->bytes[record][m] != 0;
      if (holds) close_client(i);
    }
  }
  WRITE(dev, {
    dev->lost = 0;
    dev->ecc_mode = dev->ecc_pending;
    dev->unattributed = 0;
    dev->used = 0;
    for (uint32_t i = 0; i < dev->proc_count; i++) dev->used += dev->procs[i].bytes;
  });
  reset_volatile(record);
  unlock(record);
  set_recovery_action(record, 0);
  return 0;
}

/* Unloads the module and loads it again after a while: every client loses its connection, the
 * devices may come back in another order. */
void reload(uint32_t away_ms, uint32_t shift) {
  struct sim_state *s = driver.state;
  atomic_store(&s->loaded, 0);
  kernel_line(0, 6, "nvidia-modeset: Unloading");
  for (uint32_t i = 0; i < MAX_CLIENTS; i++)
    if (i < driver.client_top) close_client(i);
  uint32_t order[SIM_MAX_DEVICES], n = s->device_count;
  for (uint32_t i = 0; i < n; i++) order[i] = atomic_load(&s->order[(i + shift) % n]);
  for (uint32_t i = 0; i < n; i++) {
    atomic_store(&s->order[i], order[i]);
    reset_volatile(i);
    unlock(i);
  }
  driver.load_at_ns = monotonic_ns() + (uint64_t)away_ms * 1000000u;
}
