/* The simulated library: initialisation, the way into every call, handles. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "nvml_lib.h"

#define NVML_ERROR_LIB_RM_VERSION_MISMATCH 18
#define CALL_TIMEOUT_S 5
#define SILENT_NS \
  1000000000ull /* no heartbeat for so long: ask the socket whether the driver lives */
#define GONE_NS 10000000000ull /* no heartbeat for so long: a hung call ends */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;      /* init, shutdown */
static pthread_mutex_t call_lock = PTHREAD_MUTEX_INITIALIZER; /* the connection */
static _Atomic(unsigned) users;
static _Atomic(const struct sim_state *) state;
static _Atomic(_Atomic uint64_t *) counters;
static _Atomic(uint32_t) seen_generation;
static _Atomic(int) driver_fd = -1;
static pid_t driver_fd_owner;
static dev_t state_dev;
static ino_t state_ino;

static struct sim_handle handles[SIM_MAX_DEVICES][SIM_MAX_MIG + 1];

const struct sim_state *sim_state(void) {
  return atomic_load_explicit(&state, memory_order_acquire);
}

uint64_t wall_us(void) {
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/* How long the driver has been silent; the coarse clock may lie a tick behind its last beat. */
static uint64_t silence_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
  uint64_t now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
  uint64_t beat = atomic_load_explicit(&sim_state()->heartbeat_ns, memory_order_relaxed);
  return now > beat ? now - beat : 0;
}

static int sim_path(const char *name, char *out, size_t size) {
  const char *dir = getenv("GPUWARDEN_SIM_DIR");
  if (!dir || dir[0] != '/') return -1;
  int n = snprintf(out, size, "%s/%s", dir, name);
  return n > 0 && (size_t)n < size ? 0 : -1;
}

int send_request(int fd, const struct sim_request *request, const char *text) {
  struct iovec iov[2] = {{(void *)(uintptr_t)request, sizeof *request},
                         {(void *)(uintptr_t)text, request->text_length}};
  struct msghdr msg = {.msg_iov = iov, .msg_iovlen = request->text_length ? 2 : 1};
  ssize_t n;
  do n = sendmsg(fd, &msg, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n == (ssize_t)(sizeof *request + request->text_length) ? 0 : -1;
}

static int receive_reply(int fd, struct sim_reply *reply) {
  ssize_t n;
  do n = recv(fd, reply, sizeof *reply, 0);
  while (n < 0 && errno == EINTR);
  return n == (ssize_t)sizeof *reply && reply->magic == SIM_PROTOCOL ? 0 : -1;
}

int driver_connect(uint32_t role) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (sim_path("driver.sock", address.sun_path, sizeof address.sun_path)) return -1;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  struct timeval limit = {.tv_sec = CALL_TIMEOUT_S};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  struct sim_request hello = {.magic = SIM_PROTOCOL, .op = SIM_HELLO, .a = role};
  struct sim_reply reply;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) || send_request(fd, &hello, NULL) ||
      receive_reply(fd, &reply) || reply.status != NVML_SUCCESS) {
    close(fd);
    return -1;
  }
  return fd;
}

nvmlReturn_t driver_call(uint32_t op, uint32_t device, uint64_t a, uint64_t b, const char *text,
                         struct sim_reply *reply) {
  static uint64_t tag;
  size_t length = text ? strlen(text) : 0;
  if (length > SIM_MAX_TEXT) return NVML_ERROR_INVALID_ARGUMENT;
  pthread_mutex_lock(&call_lock);
  int fd = atomic_load(&driver_fd);
  if (fd < 0 || driver_fd_owner != getpid()) { /* a forked child must not share the parent's */
    fd = driver_connect(SIM_ROLE_LIBRARY);
    driver_fd_owner = getpid();
    atomic_store(&driver_fd, fd);
  }
  struct sim_request request = {.magic = SIM_PROTOCOL,
                                .op = op,
                                .tag = ++tag,
                                .device = device,
                                .text_length = (uint32_t)length,
                                .a = a,
                                .b = b};
  nvmlReturn_t result = NVML_ERROR_DRIVER_NOT_LOADED;
  if (fd >= 0 && send_request(fd, &request, text) == 0) {
    int status;
    do status = receive_reply(fd, reply); /* an answer that came too late is skipped */
    while (status == 0 && reply->tag != request.tag);
    if (status == 0) result = reply->status;
  }
  pthread_mutex_unlock(&call_lock);
  return result;
}

/* Maps the state file of the driver that is there now; the old mapping is left to threads that
 * may still read it. */
static nvmlReturn_t map_state(void) {
  char path[512];
  struct stat info;
  if (sim_path("state", path, sizeof path)) return NVML_ERROR_DRIVER_NOT_LOADED;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return NVML_ERROR_DRIVER_NOT_LOADED;
  if (fstat(fd, &info) || (size_t)info.st_size < sizeof(struct sim_state)) {
    close(fd);
    return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
  }
  if (sim_state() && info.st_dev == state_dev && info.st_ino == state_ino) {
    close(fd);
    return NVML_SUCCESS;
  }
  const struct sim_state *fresh = mmap(NULL, sizeof *fresh, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (fresh == MAP_FAILED) return NVML_ERROR_MEMORY;
  if (fresh->magic != SIM_MAGIC || fresh->layout != SIM_LAYOUT || fresh->size != sizeof *fresh ||
      fresh->symbol_count != SYM_COUNT || fresh->device_count > SIM_MAX_DEVICES) {
    munmap((void *)(uintptr_t)fresh, sizeof *fresh);
    return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
  }
  void *counts = MAP_FAILED;
  if (!sim_path("counters", path, sizeof path) && (fd = open(path, O_RDWR | O_CLOEXEC)) >= 0) {
    if (!fstat(fd, &info) && (size_t)info.st_size >= SIM_MAX_SYMBOLS * sizeof(uint64_t))
      counts =
          mmap(NULL, SIM_MAX_SYMBOLS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
  }
  atomic_store(&counters, counts == MAP_FAILED ? NULL : counts);
  atomic_store_explicit(&state, fresh, memory_order_release);
  return NVML_SUCCESS;
}

static void remember_inode(void) {
  char path[512];
  struct stat info;
  if (!sim_path("state", path, sizeof path) && !stat(path, &info)) {
    state_dev = info.st_dev;
    state_ino = info.st_ino;
  }
}

static nvmlReturn_t fault(unsigned symbol, unsigned which) {
  const struct sim_fault *f = &sim_state()->faults[symbol];
  if (!atomic_load_explicit(&f->any, memory_order_relaxed)) return NVML_SUCCESS;
  const unsigned scopes[2] = {which, SIM_MAX_DEVICES};
  for (int i = 0; i < (which == SIM_MAX_DEVICES ? 1 : 2); i++) {
    unsigned scope = scopes[i];
    while (atomic_load_explicit(&f->hang[scope], memory_order_relaxed)) {
      struct timespec pause = {.tv_nsec = 20000000};
      nanosleep(&pause, NULL);
      if (silence_ns() > GONE_NS) return NVML_ERROR_UNKNOWN;
    }
    uint32_t delay = atomic_load_explicit(&f->delay_us[scope], memory_order_relaxed);
    if (delay) {
      struct timespec pause = {.tv_sec = delay / 1000000u,
                               .tv_nsec = (long)(delay % 1000000u) * 1000};
      while (nanosleep(&pause, &pause) && errno == EINTR) {
      }
    }
    uint32_t error = atomic_load_explicit(&f->error[scope], memory_order_relaxed);
    if (error) return error;
  }
  return NVML_SUCCESS;
}

static void count(unsigned symbol) {
  _Atomic uint64_t *c = atomic_load_explicit(&counters, memory_order_relaxed);
  if (c) atomic_fetch_add_explicit(&c[symbol], 1, memory_order_relaxed);
}

static nvmlReturn_t alive(void) {
  const struct sim_state *s = sim_state();
  if (atomic_load_explicit(&s->generation, memory_order_relaxed) !=
      atomic_load_explicit(&seen_generation, memory_order_relaxed))
    return NVML_ERROR_UNINITIALIZED;
  if (!atomic_load_explicit(&s->loaded, memory_order_relaxed)) return NVML_ERROR_DRIVER_NOT_LOADED;
  if (silence_ns() > SILENT_NS) {
    struct pollfd p = {.fd = atomic_load(&driver_fd), .events = POLLIN};
    if (p.fd < 0 || (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL))))
      return NVML_ERROR_DRIVER_NOT_LOADED;
  }
  return NVML_SUCCESS;
}

nvmlReturn_t enter(unsigned symbol) {
  if (!atomic_load_explicit(&users, memory_order_acquire)) return NVML_ERROR_UNINITIALIZED;
  count(symbol);
  nvmlReturn_t r = alive();
  return r ? r : fault(symbol, SIM_MAX_DEVICES);
}

int is_handle(const void *handle) {
  uintptr_t p = (uintptr_t)handle, first = (uintptr_t)handles;
  return p >= first && p < first + sizeof handles && (p - first) % sizeof(struct sim_handle) == 0;
}

nvmlReturn_t enter_lost_device(unsigned symbol, const void *handle, struct target *t) {
  if (!atomic_load_explicit(&users, memory_order_acquire)) return NVML_ERROR_UNINITIALIZED;
  count(symbol);
  nvmlReturn_t r = alive();
  if (r) return r;
  if (!is_handle(handle)) return NVML_ERROR_INVALID_ARGUMENT;
  const struct sim_handle *h = handle;
  const struct sim_state *s = sim_state();
  if (h->record >= s->device_count || h->mig > SIM_MAX_MIG) return NVML_ERROR_INVALID_ARGUMENT;
  t->dev = &s->devices[h->record];
  t->record = h->record;
  t->mig = h->mig;
  if (t->mig && !t->dev->mig[t->mig - 1].in_use) return NVML_ERROR_INVALID_ARGUMENT;
  return fault(symbol, h->record);
}

nvmlReturn_t enter_device(unsigned symbol, const void *handle, struct target *t) {
  nvmlReturn_t r = enter_lost_device(symbol, handle, t);
  if (r) return r;
  return *(const volatile uint32_t *)&t->dev->lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

nvmlDevice_t handle_of(unsigned record, unsigned mig) {
  return &handles[record][mig];
}

int index_of(unsigned record) {
  const struct sim_state *s = sim_state();
  for (unsigned i = 0; i < s->device_count; i++)
    if (atomic_load_explicit(&s->order[i], memory_order_relaxed) == record) return (int)i;
  return -1;
}

nvmlReturn_t copy_text(const char *text, char *out, unsigned length) {
  size_t need = strlen(text) + 1;
  if (need > length) return NVML_ERROR_INSUFFICIENT_SIZE;
  memcpy(out, text, need);
  return NVML_SUCCESS;
}

static nvmlReturn_t initialise(unsigned symbol) {
  pthread_mutex_lock(&lock);
  nvmlReturn_t r = NVML_SUCCESS;
  if (atomic_load(&users) == 0) {
    for (unsigned d = 0; d < SIM_MAX_DEVICES; d++)
      for (unsigned m = 0; m <= SIM_MAX_MIG; m++) handles[d][m] = (struct sim_handle){d, m};
    int fd = driver_connect(SIM_ROLE_LIBRARY);
    r = fd < 0 ? NVML_ERROR_DRIVER_NOT_LOADED : map_state();
    if (!r && !atomic_load(&sim_state()->loaded)) r = NVML_ERROR_DRIVER_NOT_LOADED;
    if (r) {
      if (fd >= 0) close(fd);
    } else {
      remember_inode();
      pthread_mutex_lock(&call_lock);
      int old = atomic_exchange(&driver_fd, fd);
      driver_fd_owner = getpid();
      pthread_mutex_unlock(&call_lock);
      if (old >= 0) close(old);
      atomic_store(&seen_generation, atomic_load(&sim_state()->generation));
    }
  }
  if (!r) atomic_fetch_add(&users, 1);
  pthread_mutex_unlock(&lock);
  if (r) return r;
  count(symbol);
  r = fault(symbol, SIM_MAX_DEVICES);
  if (r) atomic_fetch_sub(&users, 1);
  return r;
}

NVML_API nvmlReturn_t nvmlInit(void) {
  return initialise(SYM_nvmlInit);
}
NVML_API nvmlReturn_t nvmlInit_v2(void) {
  return initialise(SYM_nvmlInit_v2);
}
NVML_API nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  return initialise(SYM_nvmlInitWithFlags);
}

NVML_API nvmlReturn_t nvmlShutdown(void) {
  pthread_mutex_lock(&lock);
  nvmlReturn_t r = NVML_ERROR_UNINITIALIZED;
  if (atomic_load(&users)) {
    count(SYM_nvmlShutdown);
    if (atomic_fetch_sub(&users, 1) == 1) {
      pthread_mutex_lock(&call_lock);
      int fd = atomic_exchange(&driver_fd, -1);
      if (fd >= 0) close(fd);
      pthread_mutex_unlock(&call_lock);
    }
    r = NVML_SUCCESS;
  }
  pthread_mutex_unlock(&lock);
  return r;
}
