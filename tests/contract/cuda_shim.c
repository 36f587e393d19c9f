/* As much of libcuda as scripts/gpu-check.d/holder.py uses, over the simulated driver: with it the
 * stages that need a real GPU run, from end to end, where there is none. Memory comes at RATE. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "workload.h"

#define RATE 25.0 /* GiB/s: what a real card maps, by its order of magnitude */
#define CUDA_ERROR_OUT_OF_MEMORY 2
#define CONTEXT_BYTES (400ull << 20)

static int fd = -1;
static uint32_t device;
struct block { uint64_t bytes; };

static int take(uint64_t bytes) {
  struct sim_reply reply;
  double ns = (double)bytes / (1 << 30) / RATE * 1e9;
  struct timespec pause = {(time_t)(ns / 1e9), (long)ns % 1000000000};
  nanosleep(&pause, NULL);
  return call(fd, SIM_ALLOC, device, bytes, 0, NULL, &reply) ? CUDA_ERROR_OUT_OF_MEMORY : 0;
}

int cuInit(unsigned flags) { return (int)flags; }
int cuDeviceGet(int *out, int index) {
  struct sim_reply reply;
  char name[16];
  fd = connect_driver(0, 0);
  snprintf(name, sizeof name, "%d", index);
  if (call(fd, SIM_RESOLVE, 0, 0, 0, name, &reply)) return 101; /* CUDA_ERROR_INVALID_DEVICE */
  device = reply.device;
  return *out = 0;
}
int cuDevicePrimaryCtxRetain(void **context, int index) {
  *context = &fd;
  return index ? 101 : take(CONTEXT_BYTES);
}
int cuCtxSetCurrent(void *context) { return context == &fd ? 0 : 201; }
int cuMemAlloc_v2(uint64_t *out, size_t bytes) {
  struct block *made = malloc(sizeof *made);
  int code = made ? take(bytes) : CUDA_ERROR_OUT_OF_MEMORY;
  if (code) {
    free(made);
    return code;
  }
  made->bytes = bytes;
  *out = (uint64_t)(uintptr_t)made;
  return 0;
}
int cuMemFree_v2(uint64_t pointer) {
  struct sim_reply reply;
  struct block *block = (struct block *)(uintptr_t)pointer;
  uint32_t code = call(fd, SIM_FREE, device, block->bytes, 0, NULL, &reply);
  free(block);
  return (int)code;
}
