/* Control commands that only look. */
#define _GNU_SOURCE
#include "control.h"
#include "driver.h"

#include <stdio.h>

#include "symbol_names.h" /* generated from symbols.txt */

#define U(x) ((unsigned long long)(x))

/* ping -> {"pid": ..., "now_ns": CLOCK_MONOTONIC} */
static const char *ping(const struct json_object *args, struct json_out *out) {
  (void)args;
  json_raw(out, "\"pid\":%u,\"now_ns\":%llu,", driver.state->driver_pid, U(monotonic_ns()));
  return NULL;
}

static void one_device(struct json_out *out, uint32_t index) {
  const struct sim_device *dev = public_of(atomic_load(&driver.state->order[index]));
  const struct device *d = &driver.devices[atomic_load(&driver.state->order[index])];
  json_raw(out, "{\"index\":%u,\"uuid\":", index);
  json_string(out, dev->id.uuid);
  json_raw(out, ",\"name\":");
  json_string(out, dev->id.name);
  json_raw(out,
           ",\"pci\":\"%04x:%02x:%02x.0\",\"minor\":%u,\"total\":%llu,\"reserved\":%llu,\"used\":%"
           "llu,\"unattributed\":%llu",
           dev->id.pci_domain, dev->id.pci_bus, dev->id.pci_device, dev->id.minor, U(dev->id.total),
           U(dev->id.reserved), U(dev->used), U(dev->unattributed));
  json_raw(out,
           ",\"processes\":%u,\"launches\":%u,\"load\":%u,\"gpu_util\":%u,\"mem_util\":%u,\"power_"
           "mw\":%u,\"temp_c\":%d,\"sm_clock\":%u",
           dev->proc_count, d->launch_count, d->load, dev->gpu_util, dev->mem_util, dev->power_mw,
           dev->temp_c, dev->clock[1]);
  json_raw(out,
           ",\"lost\":%s,\"locked_up\":%s,\"offender\":%u,\"persistent\":%s,\"recovery_action\":%u,"
           "\"mig\":%s,\"instances\":[",
           dev->lost ? "true" : "false", dev->locked_up ? "true" : "false", dev->offender_pid,
           d->persistent_lockup ? "true" : "false", dev->recovery_action,
           dev->mig_mode ? "true" : "false");
  for (uint32_t m = 0, n = 0; m < SIM_MAX_MIG; m++) {
    if (!dev->mig[m].in_use) continue;
    json_raw(out, "%s{\"uuid\":\"%s\",\"gi\":%u,\"total\":%llu,\"used\":%llu}", n++ ? "," : "",
             dev->mig[m].uuid, dev->mig[m].gi, U(dev->mig[m].total), U(dev->mig[m].used));
  }
  json_raw(out, "]}");
}

/* info -> the driver and its devices in NVML order, with what was dropped or refused */
static const char *info(const struct json_object *args, struct json_out *out) {
  (void)args;
  const struct sim_state *s = driver.state;
  json_raw(out,
           "\"driver_version\":\"%s\",\"generation\":%u,\"loaded\":%s,\"seed\":%llu,\"tick\":%llu,"
           "\"devices\":[",
           s->driver_version, atomic_load(&s->generation),
           atomic_load(&s->loaded) ? "true" : "false", U(s->seed), U(driver.tick));
  for (uint32_t i = 0; i < s->device_count; i++) {
    if (i) json_raw(out, ",");
    one_device(out, i);
  }
  json_raw(out,
           "],\"events_dropped\":%llu,\"replies_dropped\":%llu,\"launches_refused\":%llu,"
           "\"clients_refused\":%llu,\"malformed\":%llu,\"kmsg_overruns\":%llu,\"leaked_"
           "reservation\":%llu,",
           U(driver.stats.events_dropped), U(driver.stats.replies_dropped),
           U(driver.stats.launches_refused), U(driver.stats.clients_refused),
           U(driver.stats.malformed), U(driver.stats.kmsg_overruns), U(driver.leaked_reservation));
  return NULL;
}

/* processes {device} -> [{"pid","bytes","kind","instance","sm"}] */
static const char *processes(const struct json_object *args, struct json_out *out) {
  uint32_t record, mig, n = 0;
  if (arg_device(args, &record, &mig)) return "device: expected an index or a UUID of this host";
  const struct sim_device *dev = public_of(record);
  json_raw(out, "\"processes\":[");
  for (uint32_t i = 0; i < dev->proc_count; i++) {
    const struct sim_proc *p = &dev->procs[i];
    if (mig && p->mig != mig) continue;
    json_raw(out, "%s{\"pid\":%u,\"bytes\":%llu,\"kind\":%u,\"instance\":%u,\"sm\":%u}",
             n++ ? "," : "", p->pid, U(p->bytes), p->kind, p->mig, p->sm);
  }
  json_raw(out, "],");
  return NULL;
}

/* log {since, limit, pid?} ->
 *   {"entries": [[number, at_ns, pid, device, change, bytes, device_used]],
 *    "next": where to ask on, "lost": entries that the ring has overwritten since `since`}
 * `device` is the minor number, which neither a shift nor a reload changes. `bytes` is what the
 * process holds there after the change. */
static const char *allocation_log(const struct json_object *args, struct json_out *out) {
  uint64_t since = 0, limit = 2000, pid = 0, lost = 0, n = 0;
  if (arg_natural(args, "since", UINT64_MAX, &since) || arg_natural(args, "limit", 20000, &limit) ||
      arg_natural(args, "pid", UINT32_MAX, &pid))
    return "since, limit, pid: expected numbers (limit at most 20000)";
  uint64_t oldest = driver.log_count > LOG_ENTRIES ? driver.log_count - LOG_ENTRIES : 0;
  if (since < oldest) {
    lost = oldest - since;
    since = oldest;
  }
  json_raw(out, "\"entries\":[");
  for (; since < driver.log_count && n < limit; since++) {
    const struct log_entry *e = &driver.log[since % LOG_ENTRIES];
    if (pid && e->pid != pid) continue;
    json_raw(out, "%s[%llu,%llu,%u,%u,%lld,%llu,%llu]", n++ ? "," : "", U(since), U(e->at_ns),
             e->pid, e->device, (long long)e->change, U(e->bytes), U(e->device_used));
  }
  json_raw(out, "],\"next\":%llu,\"lost\":%llu,", U(since), U(lost));
  return NULL;
}

/* counters {reset?} -> {"calls": {function: calls}}; functions never called are left out */
static const char *counters(const struct json_object *args, struct json_out *out) {
  json_raw(out, "\"calls\":{");
  int n = 0;
  for (unsigned i = 0; i < SYM_COUNT; i++) {
    uint64_t calls = arg_true(args, "reset") ? atomic_exchange(&driver.counters[i], 0)
                                             : atomic_load(&driver.counters[i]);
    if (calls) json_raw(out, "%s\"%s\":%llu", n++ ? "," : "", symbol_names[i], U(calls));
  }
  json_raw(out, "},");
  return NULL;
}

/* limits -> the memory limits in force */
static const char *limits(const struct json_object *args, struct json_out *out) {
  (void)args;
  static const char *const modes[] = {"enforced", "not-supported", "no-permission", "no-effect",
                                      "forgotten"};
  json_raw(out, "\"mode\":\"%s\",\"leaked_reservation\":%llu,\"limits\":[",
           modes[driver.state->limit_mode % 5], U(driver.leaked_reservation));
  for (int i = 0, n = 0; i < SIM_MAX_LIMITS; i++) {
    const struct sim_limit *l = &driver.state->limits[i];
    if (!l->in_use) continue;
    json_raw(out, "%s{\"cgroup\":", n++ ? "," : "");
    json_string(out, driver.limit_paths[i]);
    json_raw(out, ",\"device\":%u,\"soft\":%llu,\"hard\":%llu,\"used\":%llu}", l->device,
             U(l->soft), U(l->hard), U(l->used));
  }
  json_raw(out, "],");
  return NULL;
}

/* clients -> who is connected: {"pid","uid","role","launches"} */
static const char *clients(const struct json_object *args, struct json_out *out) {
  (void)args;
  static const char *const roles[] = {"none", "workload", "library", "events"};
  json_raw(out, "\"clients\":[");
  for (uint32_t i = 0, n = 0; i < driver.client_top; i++) {
    const struct client *c = &driver.clients[i];
    if (c->fd < 0) continue;
    json_raw(out, "%s{\"pid\":%d,\"uid\":%u,\"role\":\"%s\",\"launches\":%u}", n++ ? "," : "",
             (int)c->pid, c->uid, roles[c->role & 3], c->launches);
  }
  json_raw(out, "],");
  return NULL;
}

/* shutdown -> the driver ends after this answer */
static const char *shut_down(const struct json_object *args, struct json_out *out) {
  (void)args;
  (void)out;
  driver.stop = 1;
  return NULL;
}

command find_query(const char *name) {
  static const struct {
    const char *name;
    command run;
  } all[] = {{"ping", ping},          {"info", info},         {"processes", processes},
             {"log", allocation_log}, {"counters", counters}, {"limits", limits},
             {"clients", clients},    {"shutdown", shut_down}, {"kernel_log", kernel_log}};
  for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
    if (!strcmp(all[i].name, name)) return all[i].run;
  return NULL;
}
