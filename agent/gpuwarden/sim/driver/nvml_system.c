/* System functions, and how a client finds a device. */
#define _GNU_SOURCE
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "nvml_lib.h"

NVML_API const char *nvmlErrorString(nvmlReturn_t code) {
  static const char *const texts[] = {
      "Success",
      "Uninitialized",
      "Invalid Argument",
      "Not Supported",
      "Insufficient Permissions",
      "Already Initialized",
      "Not Found",
      "Insufficient Size",
      "Insufficient External Power",
      "Driver Not Loaded",
      "Timeout",
      "Interrupt Request Issue",
      "NVML Shared Library Not Found",
      "Function Not Found",
      "Corrupted infoROM",
      "GPU is lost",
      "GPU requires reset",
      "Operating System call failed",
      "Driver/library version mismatch",
      "In use by another client",
      "Insufficient Memory",
      "No data",
      "vGPU operation not available on target device, due to ECC being enabled",
      "Insufficient Resources",
      "Frequency not supported",
      "Argument version mismatch",
      "Deprecated",
      "System not ready",
      "GPU not found",
      "Invalid state",
      "Reset type not supported"};
  return code < sizeof texts / sizeof *texts ? texts[code] : "Unknown Error";
}

#define SYSTEM_TEXT(name, field)                        \
  NVML_API nvmlReturn_t name(char *out, u32_t length) { \
    ENTER(name);                                        \
    NEED(out);                                          \
    return copy_text(sim_state()->field, out, length);  \
  }
SYSTEM_TEXT(nvmlSystemGetDriverVersion, driver_version)
SYSTEM_TEXT(nvmlSystemGetNVMLVersion, nvml_version)

NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *out) {
  ENTER(nvmlSystemGetCudaDriverVersion);
  NEED(out);
  *out = sim_state()->cuda_version;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *out) {
  ENTER(nvmlSystemGetCudaDriverVersion_v2);
  NEED(out);
  *out = sim_state()->cuda_version;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlSystemGetDriverBranch(driver_branch_t *out, u32_t length) {
  ENTER(nvmlSystemGetDriverBranch);
  NEED(out);
  VERSION(out->version, driver_branch_t, 1);
  return copy_text(sim_state()->driver_branch, out->branch,
                   length < sizeof out->branch ? length : sizeof out->branch);
}

NVML_API nvmlReturn_t nvmlSystemGetProcessName(u32_t pid, char *out, u32_t length) {
  ENTER(nvmlSystemGetProcessName);
  if (!out || !length) return NVML_ERROR_INVALID_ARGUMENT;
  char path[64];
  snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return NVML_ERROR_NOT_FOUND;
  ssize_t n = read(fd, out, length - 1); /* as the vendor's: argv[0], cut to the buffer */
  close(fd);
  if (n <= 0) return NVML_ERROR_NOT_FOUND;
  out[n] = 0;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetCount_v2(u32_t *out) {
  ENTER(nvmlDeviceGetCount_v2);
  NEED(out);
  *out = sim_state()->device_count;
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetCount(u32_t *out) {
  ENTER(nvmlDeviceGetCount);
  NEED(out);
  *out = sim_state()->device_count;
  return NVML_SUCCESS;
}

static nvmlReturn_t by_index(unsigned symbol, u32_t index, nvmlDevice_t *out) {
  nvmlReturn_t r = enter(symbol);
  if (r) return r;
  NEED(out);
  const struct sim_state *s = sim_state();
  if (index >= s->device_count) return NVML_ERROR_INVALID_ARGUMENT;
  unsigned record = atomic_load_explicit(&s->order[index], memory_order_relaxed);
  if (record >= s->device_count) return NVML_ERROR_UNKNOWN;
  struct target t = {.dev = &s->devices[record]};
  if (FIELD(lost)) return NVML_ERROR_GPU_IS_LOST;
  *out = handle_of(record, 0);
  return NVML_SUCCESS;
}
NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(u32_t index, nvmlDevice_t *out) {
  return by_index(SYM_nvmlDeviceGetHandleByIndex_v2, index, out);
}
NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex(u32_t index, nvmlDevice_t *out) {
  return by_index(SYM_nvmlDeviceGetHandleByIndex, index, out);
}

static nvmlReturn_t found(unsigned record, unsigned mig, nvmlDevice_t *out) {
  struct target t = {.dev = &sim_state()->devices[record]};
  if (FIELD(lost)) return NVML_ERROR_GPU_IS_LOST;
  *out = handle_of(record, mig);
  return NVML_SUCCESS;
}

static nvmlReturn_t by_uuid(const char *uuid, nvmlDevice_t *out) {
  const struct sim_state *s = sim_state();
  for (unsigned d = 0; d < s->device_count; d++) {
    if (!strcmp(uuid, s->devices[d].id.uuid)) return found(d, 0, out);
    for (unsigned m = 0; m < SIM_MAX_MIG; m++)
      if (s->devices[d].mig[m].in_use && !strcmp(uuid, s->devices[d].mig[m].uuid))
        return found(d, m + 1, out);
  }
  return NVML_ERROR_NOT_FOUND;
}
NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *out) {
  ENTER(nvmlDeviceGetHandleByUUID);
  NEED(uuid && out);
  return by_uuid(uuid, out);
}
NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const uuid_t_ *uuid, nvmlDevice_t *out) {
  ENTER(nvmlDeviceGetHandleByUUIDV);
  NEED(uuid && out);
  VERSION(uuid->version, uuid_t_, 1);
  char text[48];
  if (uuid->type == 1) {
    memcpy(text, uuid->value.text, sizeof uuid->value.text);
    text[sizeof uuid->value.text] = 0;
  } else if (uuid->type == 2) {
    const unsigned char *b = uuid->value.bytes;
    snprintf(text, sizeof text,
             "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
  } else {
    return NVML_ERROR_INVALID_ARGUMENT;
  }
  return by_uuid(text, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *out) {
  ENTER(nvmlDeviceGetHandleBySerial);
  NEED(serial && out);
  const struct sim_state *s = sim_state();
  for (unsigned d = 0; d < s->device_count; d++)
    if (!strcmp(serial, s->devices[d].id.serial)) return found(d, 0, out);
  return NVML_ERROR_NOT_FOUND;
}

/* Accepts domain:bus:device.function with four or eight digits of domain, and no domain at all. */
static nvmlReturn_t by_bus_id(unsigned symbol, const char *bus_id, nvmlDevice_t *out) {
  nvmlReturn_t r = enter(symbol);
  if (r) return r;
  NEED(bus_id && out);
  unsigned domain = 0, bus, device, function = 0;
  char rest = 0;
  if (sscanf(bus_id, "%8x:%2x:%2x.%1x%c", &domain, &bus, &device, &function, &rest) != 4 &&
      sscanf(bus_id, "%8x:%2x:%2x%c", &domain, &bus, &device, &rest) != 3) {
    domain = 0;
    if (sscanf(bus_id, "%2x:%2x.%1x%c", &bus, &device, &function, &rest) != 3)
      return NVML_ERROR_INVALID_ARGUMENT;
  }
  const struct sim_state *s = sim_state();
  for (unsigned d = 0; d < s->device_count; d++) {
    const struct sim_identity *id = &s->devices[d].id;
    if (id->pci_domain == domain && id->pci_bus == bus && id->pci_device == device && function == 0)
      return found(d, 0, out);
  }
  return NVML_ERROR_NOT_FOUND;
}
NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *out) {
  return by_bus_id(SYM_nvmlDeviceGetHandleByPciBusId_v2, bus_id, out);
}
NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *out) {
  return by_bus_id(SYM_nvmlDeviceGetHandleByPciBusId, bus_id, out);
}
