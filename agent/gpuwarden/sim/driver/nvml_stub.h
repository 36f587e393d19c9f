/* What every function that is not simulated does; stubs.c is generated from symbols.txt. A stub
 * is weak, so an implementation of the same name takes its place at link time. */
#ifndef NVML_STUB_H
#define NVML_STUB_H

#include "nvml_lib.h"

static nvmlReturn_t not_supported(unsigned symbol, const void *first) {
  struct target t;
  nvmlReturn_t r = is_handle(first) ? enter_device(symbol, first, &t) : enter(symbol);
  return r ? r : NVML_ERROR_NOT_SUPPORTED;
}

#define STUB(name)                                                      \
  NVML_API __attribute__((weak)) nvmlReturn_t name(const void *first) { \
    return not_supported(SYM_##name, first);                            \
  }

#endif
