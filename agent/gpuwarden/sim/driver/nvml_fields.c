/* Field values: one table from field id to value. */
#define _GNU_SOURCE
#include "nvml_lib.h"

enum { TYPE_DOUBLE, TYPE_UINT, TYPE_ULONG, TYPE_ULL, TYPE_SLL, TYPE_INT, TYPE_USHORT };
#define ALL_LINKS 0xffffffffu

struct result {
  nvmlReturn_t status;
  u32_t type;
  u64_t value;
};

static struct result u32(u64_t value) {
  return (struct result){NVML_SUCCESS, TYPE_UINT, value};
}
static struct result u64(u64_t value) {
  return (struct result){NVML_SUCCESS, TYPE_ULL, value};
}
static struct result i32(int64_t value) {
  return (struct result){NVML_SUCCESS, TYPE_INT, (u64_t)value};
}
static struct result failed(nvmlReturn_t status) {
  return (struct result){status, TYPE_UINT, 0};
}

static struct result ecc(struct target t, u32_t type, u32_t counter, int location) {
  if (!FIELD(ecc_mode)) return failed(NVML_ERROR_NOT_SUPPORTED);
  if (location >= 0) return u64(FIELD(ecc[type][counter][location]));
  u64_t sum = 0;
  for (int i = 0; i < 8; i++) sum += FIELD(ecc[type][counter][i]);
  return u64(sum);
}

/* Fields 3..28: totals, then per location in the order L1, L2, device, registers, texture, CBU. */
static struct result ecc_field(struct target t, u32_t field) {
  if (field <= 6) return ecc(t, (field - 3) & 1, (field - 3) >> 1, -1);
  static const int location[] = {0, 1, 2, 3, 4};
  u32_t counter = field >= 18, at = field - (counter ? 18 : 7);
  return at == 10 ? ecc(t, 1, counter, 6) : ecc(t, at & 1, counter, location[at / 2]);
}

static u32_t retired_count(struct target t, u32_t cause) {
  u32_t n = 0;
  READ(n = 0; for (u32_t i = 0; i < t.dev->retired_count && i < SIM_MAX_RETIRED; i++) n +=
              t.dev->retired[i].cause == cause);
  return n;
}

static struct result link_sum(struct target t, u32_t scope, const uint64_t *first, size_t stride) {
  u64_t sum = 0;
  if (!t.dev->id.link_count) return failed(NVML_ERROR_NOT_SUPPORTED);
  if (scope != ALL_LINKS && scope >= t.dev->id.link_count)
    return failed(NVML_ERROR_INVALID_ARGUMENT);
  for (u32_t i = 0; i < t.dev->id.link_count; i++)
    if (scope == ALL_LINKS || scope == i) sum += ((const volatile uint64_t *)first)[i * stride];
  return u64(sum);
}

static struct result link_field(struct target t, u32_t field, u32_t scope) {
  const struct sim_identity *id = &t.dev->id;
  if (!id->link_count) return failed(NVML_ERROR_NOT_SUPPORTED);
  switch (field) {
    case 38: return link_sum(t, ALL_LINKS, &t.dev->link_errors[0][2], 5);
    case 45: return link_sum(t, ALL_LINKS, &t.dev->link_errors[0][3], 5);
    case 52: return link_sum(t, ALL_LINKS, &t.dev->link_errors[0][0], 5);
    case 59: return link_sum(t, ALL_LINKS, &t.dev->link_errors[0][1], 5);
    case 160: return link_sum(t, ALL_LINKS, &t.dev->link_errors[0][4], 5);
    case 161: return link_sum(t, scope, &t.dev->link_errors[0][0], 5);
    case 162: return link_sum(t, scope, &t.dev->link_errors[0][1], 5);
    case 163: return link_sum(t, scope, &t.dev->link_errors[0][2], 5);
    case 138:
    case 140: return link_sum(t, scope, t.dev->link_tx_kib, 1);
    case 139:
    case 141: return link_sum(t, scope, t.dev->link_rx_kib, 1);
    case 90: return u32(id->link_mbps);
    case 147: return u32(id->has_fabric ? id->link_count : 0);
    default: break;
  }
  if (scope >= id->link_count) return failed(NVML_ERROR_INVALID_ARGUMENT);
  switch (field) {
    case 164: return u32(id->link_mbps);
    case 165: return u32(FIELD(link_up[scope]));
    case 166: return u32(id->link_version);
    default: return failed(NVML_ERROR_NOT_SUPPORTED);
  }
}

/* Fields of one link each: L0..L5 in one run of ids, L6..L11 in another. */
static int per_link(u32_t field, u32_t *link, u32_t *counter) {
  static const struct {
    u32_t first, base, counter;
  } runs[] = {{32, 0, 2},  {39, 0, 3},  {46, 0, 0},  {53, 0, 1},  {96, 6, 2},
              {102, 6, 3}, {108, 6, 0}, {114, 6, 1}, {148, 0, 4}, {154, 6, 4}};
  for (unsigned i = 0; i < sizeof runs / sizeof *runs; i++)
    if (field >= runs[i].first && field < runs[i].first + 6) {
      *link = runs[i].base + field - runs[i].first;
      *counter = runs[i].counter;
      return 1;
    }
  return 0;
}

static struct result value_of(struct target t, u32_t field, u32_t scope) {
  const struct sim_identity *id = &t.dev->id;
  u32_t link, counter;
  if (field >= 3 && field <= 28) return ecc_field(t, field);
  if (per_link(field, &link, &counter)) {
    if (link >= id->link_count) return failed(NVML_ERROR_NOT_SUPPORTED);
    return u64(FIELD(link_errors[link][counter]));
  }
  switch (field) {
    case 1: return u32(FIELD(ecc_mode));
    case 2: return u32(FIELD(ecc_pending));
    case 29:
    case 30:
      return id->has_retired_pages ? u32(retired_count(t, field - 29))
                                   : failed(NVML_ERROR_NOT_SUPPORTED);
    case 31:
      return id->has_retired_pages ? u32(FIELD(retired_pending)) : failed(NVML_ERROR_NOT_SUPPORTED);
    case 74: return u64(FIELD(reason_ns[0]));
    case 75: return u64(FIELD(reason_ns[2]));
    case 76: return u64(FIELD(reason_ns[1]));
    case 269: return u64(FIELD(reason_ns[2]));
    case 270: return u64(FIELD(reason_ns[3]));
    case 271: return u64(FIELD(reason_ns[4]));
    case 82:
      return id->has_mem_temp ? u32((u64_t)FIELD(mem_temp_c)) : failed(NVML_ERROR_NOT_SUPPORTED);
    case 83:
    case 191: return u64(FIELD(energy_mj));
    case 91: return id->link_count ? u32(id->link_count) : failed(NVML_ERROR_NOT_SUPPORTED);
    case 94: return u64(FIELD(pcie_replays));
    case 95: return u64(FIELD(pcie_replay_rollovers));
    case 142:
    case 143:
    case 144:
    case 145: {
      if (!id->has_row_remap) return failed(NVML_ERROR_NOT_SUPPORTED);
      const u32_t values[] = {FIELD(remap_correctable), FIELD(remap_uncorrectable),
                              FIELD(remap_pending), FIELD(remap_failed)};
      return u32(values[field - 142]);
    }
    case 173: return u64(FIELD(pcie_correctable));
    case 174:
    case 175:
    case 176:
    case 177:
    case 178:
    case 181:
    case 182:
    case 183: return u64(0);
    case 179: return u64(FIELD(pcie_nonfatal));
    case 180: return u64(FIELD(pcie_fatal));
    case 185: return u32(FIELD(power_mw));
    case 186: return u32(FIELD(power_instant_mw));
    case 187: return u32(id->power_min_mw);
    case 188: return u32(id->power_max_mw);
    case 189: return u32(id->power_default_mw);
    case 190:
    case 192: return u32(FIELD(power_limit_mw));
    case 193:
      return i32(id->temp_gpu_max_c - id->temp_shutdown_c); /* margins, below zero past the limit */
    case 194: return i32(id->temp_gpu_max_c - id->temp_slowdown_c);
    case 195: return id->has_mem_temp ? i32(0) : failed(NVML_ERROR_NOT_SUPPORTED);
    case 196: return i32(0);
    case 197: return u64(FIELD(pcie_tx_bytes));
    case 198: return u64(FIELD(pcie_rx_bytes));
    case 230: return u32(FIELD(recovery_action));
    case 307:
      return id->has_row_remap ? u32(FIELD(remap_pending)) : failed(NVML_ERROR_NOT_SUPPORTED);
    case 38:
    case 45:
    case 52:
    case 59:
    case 90:
    case 138:
    case 139:
    case 140:
    case 141:
    case 147:
    case 160:
    case 161:
    case 162:
    case 163:
    case 164:
    case 165:
    case 166: return link_field(t, field, scope);
    default: return failed(NVML_ERROR_NOT_SUPPORTED);
  }
}

NVML_API nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
                                               field_value_t *values) {
  DEVICE(nvmlDeviceGetFieldValues);
  if (!values || count <= 0 || count > 4096) return NVML_ERROR_INVALID_ARGUMENT;
  u64_t now = wall_us();
  for (int i = 0; i < count; i++) {
    struct result r = value_of(t, values[i].field, values[i].scope);
    values[i].at_us = (long long)now;
    values[i].latency_us = 0;
    values[i].type = r.type;
    values[i].status = r.status;
    memset(&values[i].value, 0, sizeof values[i].value);
    if (r.type == TYPE_UINT)
      values[i].value.ui = (u32_t)r.value;
    else if (r.type == TYPE_INT)
      values[i].value.si = (int)r.value;
    else
      values[i].value.ull = r.value;
  }
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceClearFieldValues(nvmlDevice_t device, int count,
                                                 field_value_t *values) {
  DEVICE(nvmlDeviceClearFieldValues);
  if (!values || count <= 0 || count > 4096) return NVML_ERROR_INVALID_ARGUMENT;
  for (int i = 0; i < count; i++) values[i].status = NVML_ERROR_NOT_SUPPORTED;
  return NVML_SUCCESS;
}
