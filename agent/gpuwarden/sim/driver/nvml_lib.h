/* Inside the simulated library: how every function enters, and how it reads. */
#ifndef NVML_LIB_H
#define NVML_LIB_H

#include <stdatomic.h>
#include <string.h>

#include "abi.h"
#include "protocol.h"
#include "simstate.h"
#include "symbol_ids.h" /* generated from symbols.txt: enum { SYM_nvmlInit_v2, ... } */

/* Handles are addresses inside a static table, so they survive init and shutdown. */
struct sim_handle {
  uint32_t record, mig; /* mig 0: the whole device */
};

struct target {
  const struct sim_device *dev;
  uint32_t record, mig;
};

/* What every exported function does first: is the library initialised, is the driver there,
 * count the call, apply an injected fault. enter_device also resolves the handle. */
nvmlReturn_t enter(unsigned symbol);
nvmlReturn_t enter_device(unsigned symbol, const void *handle, struct target *t);
/* The same for the two calls a lost device still answers (its index, its PCI address). */
nvmlReturn_t enter_lost_device(unsigned symbol, const void *handle, struct target *t);

const struct sim_state *sim_state(void);
nvmlDevice_t handle_of(unsigned record, unsigned mig);
int index_of(unsigned record);
int is_handle(const void *handle);

/* One request to the driver and its answer, within 5 s. */
nvmlReturn_t driver_call(uint32_t op, uint32_t device, uint64_t a, uint64_t b, const char *text,
                         struct sim_reply *reply);
/* A connection of its own in the given role; -1 when the driver is away. */
int driver_connect(uint32_t role);
int send_request(int fd, const struct sim_request *request, const char *text);

uint64_t wall_us(void);
nvmlReturn_t copy_text(const char *text, char *out, unsigned length);
void fill_pci(const struct sim_identity *id, pci_info_t *out);

#define NEED(pointer)                                   \
  do {                                                  \
    if (!(pointer)) return NVML_ERROR_INVALID_ARGUMENT; \
  } while (0)
#define ENTER(name)                      \
  do {                                   \
    nvmlReturn_t r_ = enter(SYM_##name); \
    if (r_) return r_;                   \
  } while (0)
#define DEVICE(name)                                        \
  struct target t;                                          \
  do {                                                      \
    nvmlReturn_t r_ = enter_device(SYM_##name, device, &t); \
    if (r_) return r_;                                      \
  } while (0)
#define WHOLE_DEVICE_ONLY                       \
  do {                                          \
    if (t.mig) return NVML_ERROR_NOT_SUPPORTED; \
  } while (0)
#define NOT_IN_MIG                                                 \
  do {                                                             \
    if (t.mig || FIELD(mig_mode)) return NVML_ERROR_NOT_SUPPORTED; \
  } while (0)
#define VERSION(value, type, number)                                                     \
  do {                                                                                   \
    if ((value) != VERSIONED(type, number)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH; \
  } while (0)

/* One aligned value: no lock needed. */
#define FIELD(member) (*(const volatile __typeof__(t.dev->member) *)&t.dev->member)

/* Values that belong together: retried until the writer was not in between. A writer that died
 * in mid-write must not hang its readers, so the wait for it is bounded. */
static inline uint32_t seq_begin(const struct sim_device *dev) {
  uint32_t seq = atomic_load_explicit(&dev->seq, memory_order_acquire);
  for (unsigned spins = 0; (seq & 1) && spins < 1u << 20; spins++)
    seq = atomic_load_explicit(&dev->seq, memory_order_acquire);
  return seq;
}
static inline int seq_same(const struct sim_device *dev, uint32_t seq) {
  atomic_thread_fence(memory_order_acquire);
  return (seq & 1) || atomic_load_explicit(&dev->seq, memory_order_relaxed) == seq;
}
#define READ(...)                     \
  do {                                \
    uint32_t seq_;                    \
    do {                              \
      seq_ = seq_begin(t.dev);        \
      __VA_ARGS__;                    \
    } while (!seq_same(t.dev, seq_)); \
  } while (0)

#define GET_U32(name, value)                                    \
  NVML_API nvmlReturn_t name(nvmlDevice_t device, u32_t *out) { \
    DEVICE(name);                                               \
    NEED(out);                                                  \
    *out = (value);                                             \
    return NVML_SUCCESS;                                        \
  }
#define GET_TEXT(name, value)                                                \
  NVML_API nvmlReturn_t name(nvmlDevice_t device, char *out, u32_t length) { \
    DEVICE(name);                                                            \
    NEED(out);                                                               \
    return copy_text((value), out, length);                                  \
  }

#endif
