/* Utilisation, clocks, power, temperature, fans. */
#define _GNU_SOURCE
#include "nvml_lib.h"

NVML_API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, utilization_t *out) {
  DEVICE(nvmlDeviceGetUtilizationRates);
  NEED(out);
  NOT_IN_MIG;
  READ(out->gpu = t.dev->gpu_util; out->memory = t.dev->mem_util);
  return NVML_SUCCESS;
}

#define ENGINE(name, field)                                                           \
  NVML_API nvmlReturn_t name(nvmlDevice_t device, u32_t *percent, u32_t *period_us) { \
    DEVICE(name);                                                                     \
    NEED(percent && period_us);                                                       \
    NOT_IN_MIG;                                                                       \
    *percent = FIELD(field);                                                          \
    *period_us = 100000;                                                              \
    return NVML_SUCCESS;                                                              \
  }
ENGINE(nvmlDeviceGetEncoderUtilization, enc_util)
ENGINE(nvmlDeviceGetDecoderUtilization, dec_util)
ENGINE(nvmlDeviceGetJpgUtilization, jpg_util)
ENGINE(nvmlDeviceGetOfaUtilization, ofa_util)

/* --- clocks --- */

static nvmlReturn_t clock_value(unsigned symbol, nvmlDevice_t device, u32_t type, u32_t *out,
                                int maximum) {
  struct target t;
  nvmlReturn_t r = enter_device(symbol, device, &t);
  if (r) return r;
  NEED(out);
  if (type > 3) return NVML_ERROR_INVALID_ARGUMENT;
  *out = maximum ? t.dev->id.clock_max[type] : FIELD(clock[type]);
  return NVML_SUCCESS;
}
#define CLOCK(name, maximum)                                                \
  NVML_API nvmlReturn_t name(nvmlDevice_t device, u32_t type, u32_t *out) { \
    return clock_value(SYM_##name, device, type, out, maximum);             \
  }
CLOCK(nvmlDeviceGetClockInfo, 0)
CLOCK(nvmlDeviceGetMaxClockInfo, 1)
CLOCK(nvmlDeviceGetApplicationsClock, 1)
CLOCK(nvmlDeviceGetDefaultApplicationsClock, 1)
CLOCK(nvmlDeviceGetMaxCustomerBoostClock, 1)
NVML_API nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, u32_t type, u32_t id, u32_t *out) {
  if (id > 3) {
    DEVICE(nvmlDeviceGetClock);
    return NVML_ERROR_INVALID_ARGUMENT;
  }
  return clock_value(SYM_nvmlDeviceGetClock, device, type, out, id != 0);
}
NVML_API nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, u32_t *count,
                                                         u32_t *out) {
  DEVICE(nvmlDeviceGetSupportedMemoryClocks);
  NEED(count);
  u32_t room = out ? *count : 0;
  *count = 1;
  if (!room) return NVML_ERROR_INSUFFICIENT_SIZE;
  out[0] = t.dev->id.clock_max[2];
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, u32_t memory_mhz,
                                                           u32_t *count, u32_t *out) {
  DEVICE(nvmlDeviceGetSupportedGraphicsClocks);
  NEED(count);
  if (memory_mhz != t.dev->id.clock_max[2]) return NVML_ERROR_NOT_FOUND;
  u32_t room = out ? *count : 0, n = 0;
  for (u32_t mhz = t.dev->id.clock_max[0]; mhz >= t.dev->id.clock_idle[0] && mhz >= 15; mhz -= 15) {
    if (n < room) out[n] = mhz;
    n++;
  }
  *count = n;
  return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

GET_U32(nvmlDeviceGetPerformanceState, FIELD(pstate))
GET_U32(nvmlDeviceGetPowerState, FIELD(pstate))

#define REASONS(name, value)                                    \
  NVML_API nvmlReturn_t name(nvmlDevice_t device, u64_t *out) { \
    DEVICE(name);                                               \
    NEED(out);                                                  \
    *out = (value);                                             \
    return NVML_SUCCESS;                                        \
  }
REASONS(nvmlDeviceGetCurrentClocksEventReasons, FIELD(reasons))
REASONS(nvmlDeviceGetCurrentClocksThrottleReasons, FIELD(reasons))
REASONS(nvmlDeviceGetSupportedClocksEventReasons, 0x1ff)
REASONS(nvmlDeviceGetSupportedClocksThrottleReasons, 0x1ff)
REASONS(nvmlDeviceGetTotalEnergyConsumption, FIELD(energy_mj))

NVML_API nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, u32_t policy,
                                                   violation_t *out) {
  DEVICE(nvmlDeviceGetViolationStatus);
  NEED(out);
  static const int by_policy[] = {0, 2, 1}; /* power, thermal, sync boost -> reason_ns */
  if (policy > 11 || (policy > 5 && policy < 10)) return NVML_ERROR_INVALID_ARGUMENT;
  out->reference_us = wall_us();
  out->violation_ns = policy < 3 ? FIELD(reason_ns[by_policy[policy]]) : 0;
  return NVML_SUCCESS;
}

/* --- power --- */

GET_U32(nvmlDeviceGetPowerUsage, FIELD(power_mw))
GET_U32(nvmlDeviceGetPowerManagementLimit, FIELD(power_limit_mw))
static u32_t enforced_limit(struct target t) {
  u32_t limit = FIELD(power_limit_mw), held = FIELD(power_held_mw);
  return held && held < limit ? held : limit;
}
GET_U32(nvmlDeviceGetEnforcedPowerLimit, enforced_limit(t))
GET_U32(nvmlDeviceGetPowerManagementDefaultLimit, t.dev->id.power_default_mw)
GET_U32(nvmlDeviceGetPowerManagementMode, 1)
NVML_API nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, u32_t *low,
                                                                   u32_t *high) {
  DEVICE(nvmlDeviceGetPowerManagementLimitConstraints);
  NEED(low && high);
  *low = t.dev->id.power_min_mw;
  *high = t.dev->id.power_max_mw;
  return NVML_SUCCESS;
}

/* --- temperature --- */

NVML_API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, u32_t sensor, u32_t *out) {
  DEVICE(nvmlDeviceGetTemperature);
  NEED(out);
  if (sensor != 0) return NVML_ERROR_INVALID_ARGUMENT;
  *out = (u32_t)FIELD(temp_c);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, temperature_v1_t *out) {
  DEVICE(nvmlDeviceGetTemperatureV);
  NEED(out);
  VERSION(out->version, temperature_v1_t, 1);
  if (out->sensor != 0) return NVML_ERROR_INVALID_ARGUMENT;
  out->celsius = FIELD(temp_c);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, u32_t which,
                                                        u32_t *out) {
  DEVICE(nvmlDeviceGetTemperatureThreshold);
  NEED(out);
  const struct sim_identity *id = &t.dev->id;
  const int32_t limits[] = {id->temp_shutdown_c, id->temp_slowdown_c, id->temp_mem_max_c,
                            id->temp_gpu_max_c};
  if (which > 7) return NVML_ERROR_INVALID_ARGUMENT;
  if (which > 3 || (which == 2 && !id->has_mem_temp)) return NVML_ERROR_NOT_SUPPORTED;
  *out = (u32_t)limits[which];
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device,
                                                     margin_temperature_t *out) {
  DEVICE(nvmlDeviceGetMarginTemperature);
  NEED(out);
  VERSION(out->version, margin_temperature_t, 1);
  out->celsius = t.dev->id.temp_gpu_max_c - FIELD(temp_c);
  return NVML_SUCCESS;
}

/* --- fans: data-centre boards have none of their own --- */

NVML_API nvmlReturn_t nvmlDeviceGetNumFans(nvmlDevice_t device, u32_t *out) {
  DEVICE(nvmlDeviceGetNumFans);
  NEED(out);
  *out = t.dev->id.fans;
  return NVML_SUCCESS;
}
static nvmlReturn_t fan_speed(unsigned symbol, nvmlDevice_t device, u32_t fan, u32_t *out,
                              u32_t scale) {
  struct target t;
  nvmlReturn_t r = enter_device(symbol, device, &t);
  if (r) return r;
  NEED(out);
  if (!t.dev->id.fans) return NVML_ERROR_NOT_SUPPORTED;
  if (fan >= t.dev->id.fans) return NVML_ERROR_INVALID_ARGUMENT;
  *out = FIELD(fan_percent) * scale;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, u32_t *out) {
  return fan_speed(SYM_nvmlDeviceGetFanSpeed, device, 0, out, 1);
}
NVML_API nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, u32_t fan, u32_t *out) {
  return fan_speed(SYM_nvmlDeviceGetFanSpeed_v2, device, fan, out, 1);
}
NVML_API nvmlReturn_t nvmlDeviceGetTargetFanSpeed(nvmlDevice_t device, u32_t fan, u32_t *out) {
  return fan_speed(SYM_nvmlDeviceGetTargetFanSpeed, device, fan, out, 1);
}
NVML_API nvmlReturn_t nvmlDeviceGetFanSpeedRPM(nvmlDevice_t device, fan_speed_rpm_t *out) {
  if (out && out->version != VERSIONED(fan_speed_rpm_t, 1)) {
    DEVICE(nvmlDeviceGetFanSpeedRPM);
    return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  }
  return fan_speed(SYM_nvmlDeviceGetFanSpeedRPM, device, out ? out->fan : 0, out ? &out->rpm : NULL,
                   34);
}

/* --- the recorded samples --- */

NVML_API nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, u32_t type, u64_t since_us,
                                           u32_t *value_type, u32_t *count, sample_t *out) {
  DEVICE(nvmlDeviceGetSamples);
  NEED(value_type && count);
  NOT_IN_MIG;
  if (type > 9) return NVML_ERROR_INVALID_ARGUMENT;
  if (type > 6) return NVML_ERROR_NOT_SUPPORTED;
  *value_type = 1; /* unsigned int */
  if (!out) {
    *count = SIM_SAMPLES;
    return NVML_SUCCESS;
  }
  u32_t room = *count, n = 0;
  READ({
    n = 0;
    u32_t have = t.dev->sample_count < SIM_SAMPLES ? t.dev->sample_count : SIM_SAMPLES;
    u32_t first = (t.dev->sample_next + SIM_SAMPLES - have) % SIM_SAMPLES;
    for (u32_t i = 0; i < have; i++) {
      const struct sim_sample *s = &t.dev->samples[(first + i) % SIM_SAMPLES];
      if (s->at_us <= since_us) continue;
      const u32_t values[] = {s->power_mw, s->gpu,      s->mem,      s->enc,
                              s->dec,      s->sm_clock, s->mem_clock};
      if (n < room) {
        out[n] = (sample_t){.at_us = s->at_us};
        out[n].value.ui = values[type];
      }
      n++;
    }
  });
  if (!n) return NVML_ERROR_NOT_FOUND;
  *count = n;
  return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
