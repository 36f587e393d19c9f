/* A workload's connection to the simulated driver. */
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_S 10

_Noreturn void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("workload: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  _exit(1);
}

uint64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t mix(uint64_t seed, uint64_t n) {
  uint64_t z = seed * 0x9e3779b97f4a7c15ull + (n + 1) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

int connect_driver(uint32_t kind, int inherit) {
  const char *dir = getenv("GPUWARDEN_SIM_DIR");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (!dir || dir[0] != '/') fail("GPUWARDEN_SIM_DIR: expected an absolute path");
  int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/driver.sock", dir);
  if (n < 0 || (size_t)n >= sizeof address.sun_path) fail("GPUWARDEN_SIM_DIR: too long");
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | (inherit ? 0 : SOCK_CLOEXEC), 0);
  if (fd < 0) fail("socket: %s", strerror(errno));
  struct timeval limit = {.tv_sec = TIMEOUT_S};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, (struct sockaddr *)&address, sizeof address))
    fail("%s: %s", address.sun_path, strerror(errno));
  struct sim_reply reply;
  if (call(fd, SIM_HELLO, 0, SIM_ROLE_WORKLOAD, kind, NULL, &reply))
    fail("the driver is not loaded");
  return fd;
}

uint32_t call(int fd, uint32_t op, uint32_t device, uint64_t a, uint64_t b, const char *text,
              struct sim_reply *reply) {
  size_t length = text ? strlen(text) : 0;
  struct sim_request request = {.magic = SIM_PROTOCOL,
                                .op = op,
                                .device = device,
                                .text_length = (uint32_t)length,
                                .a = a,
                                .b = b};
  struct iovec iov[2] = {{&request, sizeof request}, {(void *)(uintptr_t)text, length}};
  struct msghdr message = {.msg_iov = iov, .msg_iovlen = length ? 2 : 1};
  ssize_t n;
  do n = sendmsg(fd, &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n < 0) fail("the driver is gone: %s", strerror(errno));
  do n = recv(fd, reply, sizeof *reply, 0);
  while (n < 0 && errno == EINTR);
  if (n != (ssize_t)sizeof *reply || reply->magic != SIM_PROTOCOL) fail("the driver is gone");
  return reply->status;
}

/* The n-th device that a container's environment shows, as the container toolkit reads it. */
uint32_t visible_device(int fd, uint32_t ordinal) {
  const char *list = getenv("NVIDIA_VISIBLE_DEVICES");
  char name[128];
  struct sim_reply reply;
  if (!list || !strcmp(list, "all")) {
    snprintf(name, sizeof name, "%u", ordinal);
  } else {
    for (uint32_t i = 0; i < ordinal; i++) {
      list = strchr(list, ',');
      if (!list) fail("--device %u: NVIDIA_VISIBLE_DEVICES shows fewer devices", ordinal);
      list++;
    }
    size_t length = strcspn(list, ",");
    if (!length || length >= sizeof name || !strncmp(list, "none", 4) || !strncmp(list, "void", 4))
      fail("NVIDIA_VISIBLE_DEVICES=\"%s\" shows no device %u", list, ordinal);
    memcpy(name, list, length);
    name[length] = 0;
  }
  if (call(fd, SIM_RESOLVE, 0, 0, 0, name, &reply)) fail("no device \"%s\" on this host", name);
  return reply.device;
}

void wait_for_hangup(int fd) {
  for (;;) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, -1);
    if (n < 0 && errno == EINTR) continue;
    char byte[sizeof(struct sim_reply)];
    if (n < 0 || recv(fd, byte, sizeof byte, MSG_DONTWAIT) == 0 ||
        (p.revents & (POLLHUP | POLLERR)))
      fail("the driver is gone");
  }
}
