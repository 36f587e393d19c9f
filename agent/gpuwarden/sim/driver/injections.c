/* Control commands that change the world: faults and what undoes them. Arguments in braces, those
 * with a question mark may be absent; "device" absent means all devices where it says so. */
#define _GNU_SOURCE
#include "control.h"
#include "driver.h"

#include "symbol_names.h"

#define NO_DEVICE "device: expected an index or a UUID of this host"
#define DEVICE_ARG                                       \
  uint32_t record, mig;                                  \
  (void)out;                                             \
  if (arg_device(args, &record, &mig)) return NO_DEVICE; \
  struct sim_device *dev = public_of(record);            \
  (void)dev
#define NATURAL(key, high, variable) \
  if (arg_natural(args, key, high, &variable)) return key ": expected a number from 0 to " #high

/* xid {device, xid, pid?, text?}: an event to whoever registered, and a kernel line */
static const char *xid(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t number = 0, pid = 0;
  NATURAL("xid", 999, number);
  NATURAL("pid", 0x7fffffff, pid);
  if (!number) return "xid: missing";
  raise_xid(record, (uint32_t)number, (pid_t)pid, arg_text(args, "text"), mig);
  return NULL;
}

/* event {device, type, data?}: any NVML event, without a kernel line */
static const char *event(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t type = 0, data = 0;
  NATURAL("type", UINT32_MAX, type);
  NATURAL("data", UINT64_MAX, data);
  raise_event(record, type, data, mig);
  return NULL;
}

/* kernel_line {text, level?, facility?, count?}: lines of the simulated kernel log; a facility
 * other than 0 is what user space would forge */
static const char *kernel_lines(const struct json_object *args, struct json_out *out) {
  (void)out;
  uint64_t level = 4, facility = 0, count = 1;
  NATURAL("level", 7, level);
  NATURAL("facility", 23, facility);
  NATURAL("count", 100000, count);
  const char *text = arg_text(args, "text");
  if (!text) return "text: missing";
  for (uint64_t i = 0; i < count; i++) kernel_line((uint32_t)facility, (uint32_t)level, text);
  return NULL;
}

/* --- one function of the library: {function, device?}; without a device, for all and for calls
 * that name none --- */

static const char *fault_place(const struct json_object *args, struct sim_fault **fault,
                               uint32_t *scope) {
  const char *name = arg_text(args, "function");
  uint32_t mig;
  *fault = NULL;
  *scope = SIM_MAX_DEVICES;
  if (!name) return "function: missing";
  for (unsigned i = 0; i < SYM_COUNT; i++)
    if (!strcmp(symbol_names[i], name)) *fault = &driver.state->faults[i];
  if (!*fault)
    return "function: not a function of the library; use the full name with its version suffix";
  if (json_find(args, "device") && json_find(args, "device")->type != JSON_NULL &&
      arg_device(args, scope, &mig))
    return NO_DEVICE;
  return NULL;
}
static void settle(struct sim_fault *f) {
  uint32_t any = 0;
  for (unsigned d = 0; d <= SIM_MAX_DEVICES; d++)
    any |= atomic_load(&f->hang[d]) | atomic_load(&f->delay_us[d]) | atomic_load(&f->error[d]);
  atomic_store(&f->any, any != 0);
}

/* hang {function, device?}: the caller never returns, until unhang */
static const char *hang(const struct json_object *args, struct json_out *out) {
  (void)out;
  struct sim_fault *f;
  uint32_t scope;
  const char *error = fault_place(args, &f, &scope);
  if (error) return error;
  atomic_store(&f->hang[scope], 1);
  settle(f);
  return NULL;
}
static const char *unhang(const struct json_object *args, struct json_out *out) {
  (void)out;
  struct sim_fault *f;
  uint32_t scope;
  const char *error = fault_place(args, &f, &scope);
  if (error) return error;
  for (unsigned d = 0; d <= SIM_MAX_DEVICES; d++) /* without a device: wherever it hangs */
    if (d == scope || scope == SIM_MAX_DEVICES) atomic_store(&f->hang[d], 0);
  settle(f);
  return NULL;
}
/* slow {function, device?, ms}: each call takes so much longer; 0 ends it */
static const char *slow(const struct json_object *args, struct json_out *out) {
  (void)out;
  struct sim_fault *f;
  uint32_t scope;
  const char *error = fault_place(args, &f, &scope);
  const struct json_value *ms = json_find(args, "ms");
  if (error) return error;
  if (!ms || (ms->type != JSON_INTEGER && ms->type != JSON_REAL)) return "ms: missing";
  double value = ms->type == JSON_REAL ? ms->real : (double)ms->integer;
  if (!(value >= 0 && value <= 3600000)) return "ms: expected 0 to 3600000";
  atomic_store(&f->delay_us[scope], (uint32_t)(value * 1000));
  settle(f);
  return NULL;
}
/* error {function, device?, code}: each call returns the NVML code; 0 ends it */
static const char *error_code(const struct json_object *args, struct json_out *out) {
  (void)out;
  struct sim_fault *f;
  uint32_t scope;
  uint64_t code = 0;
  const char *error = fault_place(args, &f, &scope);
  if (error) return error;
  NATURAL("code", 999, code);
  atomic_store(&f->error[scope], (uint32_t)code);
  settle(f);
  return NULL;
}
/* clear_faults: no function hangs, is slow or fails any more */
static const char *clear_faults(const struct json_object *args, struct json_out *out) {
  (void)args;
  (void)out;
  for (unsigned i = 0; i < SYM_COUNT; i++) {
    struct sim_fault *f = &driver.state->faults[i];
    for (unsigned d = 0; d <= SIM_MAX_DEVICES; d++) {
      atomic_store(&f->hang[d], 0);
      atomic_store(&f->delay_us[d], 0);
      atomic_store(&f->error[d], 0);
    }
    atomic_store(&f->any, 0);
  }
  return NULL;
}

/* --- whole devices --- */

/* lose {device}: off the bus, with Xid 79; every call says GPU_IS_LOST */
static const char *lose_device(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  lose(record);
  return NULL;
}
/* restore {device}: on the bus again */
static const char *restore(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  WRITE(dev, dev->lost = 0);
  return NULL;
}
/* lock_up {device, pid?, persistent?, xid?}: nothing completes; ends when the offender is gone, or
 * with unlock or reset when persistent */
static const char *lock_device(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t pid = 0, number = 0;
  NATURAL("pid", 0x7fffffff, pid);
  NATURAL("xid", 999, number);
  lock_up(record, (pid_t)pid, arg_true(args, "persistent"), (uint32_t)number);
  return NULL;
}
static const char *unlock_device(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  unlock(record);
  return NULL;
}
/* reset {device, force?}: what nvidia-smi --gpu-reset does; refused while processes are there,
 * unless force, which takes their connections away */
static const char *reset(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  return reset_device(record, arg_true(args, "force")) ? "device: in use by processes" : NULL;
}
/* shift {by}: NVML indices move while clients are connected */
static const char *shift(const struct json_object *args, struct json_out *out) {
  (void)out;
  uint64_t by = 1;
  NATURAL("by", 16, by);
  struct sim_state *s = driver.state;
  uint32_t order[SIM_MAX_DEVICES], n = s->device_count;
  for (uint32_t i = 0; i < n; i++) order[i] = atomic_load(&s->order[(i + by) % n]);
  for (uint32_t i = 0; i < n; i++) atomic_store(&s->order[i], order[i]);
  return NULL;
}
/* reload {away_ms?, shift?}: the driver goes and comes back; clients lose everything, NVML says
 * UNINITIALIZED until it is initialised again */
static const char *reload_driver(const struct json_object *args, struct json_out *out) {
  (void)out;
  uint64_t away = 500, by = 0;
  NATURAL("away_ms", 3600000, away);
  NATURAL("shift", 16, by);
  reload((uint32_t)away, (uint32_t)by);
  return NULL;
}
/* recovery {device, action}: field 230, with its event and Xid 154 */
static const char *recovery(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t action = 0;
  NATURAL("action", 7, action);
  set_recovery_action(record, (uint32_t)action);
  return NULL;
}

/* --- health --- */

/* ecc {device, uncorrected?, location?, count?}: adds errors, with their event; location 2 is DRAM
 */
static const char *ecc(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t location = 2, count = 1, threshold = dev->sram_threshold_exceeded;
  NATURAL("location", 7, location);
  NATURAL("count", 1000000000, count);
  NATURAL("sram_threshold", 1, threshold);
  int type = arg_true(args, "uncorrected");
  WRITE(dev, dev->ecc[type][0][location] += count; dev->ecc[type][1][location] += count;
        dev->sram_threshold_exceeded = (uint32_t)threshold);
  raise_event(record, type ? 0x2 : 0x1, 0, mig);
  return NULL;
}
/* remap {device, correctable?, uncorrectable?, pending?, failed?}: row remaps, set to these values
 */
static const char *remap(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  if (!dev->id.has_row_remap) return "device: its profile has no row remapping";
  uint64_t cor = dev->remap_correctable, unc = dev->remap_uncorrectable,
           pending = dev->remap_pending, failed = dev->remap_failed;
  NATURAL("correctable", 640, cor);
  NATURAL("uncorrectable", 640, unc);
  NATURAL("pending", 1, pending);
  NATURAL("failed", 1, failed);
  uint32_t used = (uint32_t)(cor + unc) > 640 ? 640 : (uint32_t)(cor + unc);
  WRITE(dev, dev->remap_correctable = (uint32_t)cor; dev->remap_uncorrectable = (uint32_t)unc;
        dev->remap_pending = (uint32_t)pending; dev->remap_failed = (uint32_t)failed;
        dev->remap_banks[0] = 640 - used; dev->remap_banks[1] = used);
  raise_event(record, failed ? 0x800 : 0x400, 0, mig);
  return NULL;
}
/* retire {device, double_bit?, count?}: retired pages, one by one, pending until a reset */
static const char *retire(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  if (!dev->id.has_retired_pages) return "device: its profile has no page retirement";
  uint64_t count = 1;
  NATURAL("count", 64, count);
  WRITE(dev, {
    for (uint64_t i = 0; i < count && dev->retired_count < SIM_MAX_RETIRED; i++) {
      uint32_t n = dev->retired_count++;
      dev->retired[n] =
          (struct sim_retired){draw(driver.seed, 40 + n, record) % dev->id.total >> 12 << 12,
                               realtime_us() / 1000000, (uint32_t)arg_true(args, "double_bit"), 0};
    }
    dev->retired_pending = 1;
  });
  return NULL;
}
/* nvlink {device, link, up?, counter?, count?}: state of a link, or errors added to one counter
 * (0 replay, 1 recovery, 2 CRC flit, 3 CRC data, 4 ECC) */
static const char *nvlink(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t link = 0, up = 0, counter = 0, count = 0;
  if (!dev->id.link_count) return "device: its profile has no NVLink";
  NATURAL("link", 17, link);
  if (link >= dev->id.link_count) return "link: not on this device";
  up = dev->link_up[link];
  NATURAL("up", 1, up);
  NATURAL("counter", 4, counter);
  NATURAL("count", 1000000000, count);
  WRITE(dev, dev->link_up[link] = (uint32_t)up; dev->link_errors[link][counter] += count);
  return NULL;
}
/* pcie {device, replays?, correctable?, nonfatal?, fatal?, width?}: counters added, width set */
static const char *pcie(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t replays = 0, cor = 0, nonfatal = 0, fatal = 0, width = dev->pcie_width;
  NATURAL("replays", 1000000000, replays);
  NATURAL("correctable", 1000000000, cor);
  NATURAL("nonfatal", 1000000000, nonfatal);
  NATURAL("fatal", 1000000000, fatal);
  NATURAL("width", 16, width);
  WRITE(dev, dev->pcie_replays += (uint32_t)replays; dev->pcie_correctable += cor;
        dev->pcie_nonfatal += nonfatal; dev->pcie_fatal += fatal;
        dev->pcie_width = (uint32_t)width);
  return NULL;
}
/* thermal {device, celsius?, reasons?}: a temperature or clock-event reasons that stay; 0 lets go
 */
static const char *thermal(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t celsius = (uint64_t)driver.devices[record].forced_temp_c,
           reasons = driver.devices[record].forced_reasons;
  NATURAL("celsius", 150, celsius);
  NATURAL("reasons", 511, reasons);
  driver.devices[record].forced_temp_c = (int)celsius;
  driver.devices[record].forced_reasons = reasons;
  return NULL;
}
/* fabric {device, state?, health?}: 0 not supported .. 3 completed; health mask, 0xaa is healthy */
static const char *fabric(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t state = dev->fabric_state, health = dev->fabric_health_mask;
  if (!dev->id.has_fabric) return "device: its profile has no fabric";
  NATURAL("state", 3, state);
  NATURAL("health", UINT32_MAX, health);
  WRITE(dev, dev->fabric_state = (uint32_t)state; dev->fabric_health_mask = (uint32_t)health);
  return NULL;
}
/* repair {device, channel?, tpc?, unrepairable?} */
static const char *repair(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t channel = dev->repair_channel, tpc = dev->repair_tpc, unrepairable = dev->unrepairable;
  NATURAL("channel", 1, channel);
  NATURAL("tpc", 1, tpc);
  NATURAL("unrepairable", 1, unrepairable);
  WRITE(dev, dev->repair_channel = (uint32_t)channel; dev->repair_tpc = (uint32_t)tpc;
        dev->unrepairable = (uint32_t)unrepairable);
  return NULL;
}

/* --- memory --- */

/* unattributed {device, bytes}: device memory that no process accounts for (managed memory, a
 * leak), set to this value */
static const char *unattributed(const struct json_object *args, struct json_out *out) {
  DEVICE_ARG;
  uint64_t bytes = 0;
  NATURAL("bytes", INT64_MAX, bytes);
  uint64_t others = dev->used - dev->unattributed;
  if (bytes > dev->id.total - dev->id.reserved || others > dev->id.total - dev->id.reserved - bytes)
    return "bytes: more than the device has free";
  WRITE(dev, dev->used = others + bytes; dev->unattributed = bytes);
  return NULL;
}
/* limit_mode {mode}: enforced, not-supported, no-permission, no-effect, forgotten */
static const char *limit_mode(const struct json_object *args, struct json_out *out) {
  (void)out;
  static const char *const modes[] = {"enforced", "not-supported", "no-permission", "no-effect",
                                      "forgotten"};
  const char *mode = arg_text(args, "mode");
  for (uint32_t i = 0; mode && i < sizeof modes / sizeof *modes; i++)
    if (!strcmp(modes[i], mode)) {
      driver.state->limit_mode = i;
      atomic_fetch_add(&driver.state->limits_generation, 1);
      return NULL;
    }
  return "mode: expected enforced, not-supported, no-permission, no-effect or forgotten";
}

command find_injection(const char *name) {
  static const struct {
    const char *name;
    command run;
  } all[] = {{"xid", xid},
             {"event", event},
             {"kernel_line", kernel_lines},
             {"hang", hang},
             {"unhang", unhang},
             {"slow", slow},
             {"error", error_code},
             {"clear_faults", clear_faults},
             {"lose", lose_device},
             {"restore", restore},
             {"lock_up", lock_device},
             {"unlock", unlock_device},
             {"reset", reset},
             {"shift", shift},
             {"reload", reload_driver},
             {"recovery", recovery},
             {"ecc", ecc},
             {"remap", remap},
             {"retire", retire},
             {"nvlink", nvlink},
             {"pcie", pcie},
             {"thermal", thermal},
             {"fabric", fabric},
             {"repair", repair},
             {"unattributed", unattributed},
             {"limit_mode", limit_mode}};
  for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
    if (!strcmp(all[i].name, name)) return all[i].run;
  return find_board_injection(name);
}
