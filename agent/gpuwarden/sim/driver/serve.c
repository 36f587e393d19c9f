/* An inference service on 127.0.0.1. Every request, its own (one each interval) or a client's
 * (GET /infer), is a piece of work on the device; its latency is the time until the driver says
 * that the work completed, so it suffers when others ask for more than the device has, and while
 * the device is locked up. /metrics is a Prometheus page.
 *
 *   --port --size [--interval-ms 20] [--base-low-ms 40] [--base-high-ms 150] [--demand 100]
 *   [--timeout-ms 5000] [--slo-ms 300]
 */
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUESTS 120 /* in flight; below what the driver takes from one connection */
#define MAX_PEERS 32
#define PAGE_BYTES 8192

static const double bounds_s[] = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25,
                                  0.3,   0.4,  0.5,   0.75, 1,     1.5, 2,     3,    5,   10};
#define BOUNDS (sizeof bounds_s / sizeof *bounds_s)

struct request {
  uint64_t tag, since_ns;
  int peer, timed_out;
};
struct peer {
  int fd;
  size_t have;
  char in[2048];
  uint64_t since_ns;
  int waiting;
};

static struct {
  const struct options *o;
  int driver, listener;
  uint32_t device;
  uint64_t next_tag, next_ns, started_s;
  struct request requests[MAX_REQUESTS];
  uint32_t in_flight;
  struct peer peers[MAX_PEERS];
  uint64_t buckets[BOUNDS + 1], ok, timeouts, shed, device_errors;
  double sum_s;
} service;

static void close_peer(int i) {
  close(service.peers[i].fd);
  service.peers[i].fd = -1;
}

static void respond(int i, const char *status, const char *type, const char *body) {
  char head[256];
  int n = snprintf(
      head, sizeof head,
      "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status,
      type, strlen(body));
  struct iovec iov[2] = {{head, (size_t)n}, {(void *)(uintptr_t)body, strlen(body)}};
  struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
  if (sendmsg(service.peers[i].fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) <
      0) { /* the peer left; nothing is owed to it */
  }
  close_peer(i);
}

static void observe(double seconds) {
  size_t at = 0;
  while (at < BOUNDS && seconds > bounds_s[at]) at++;
  service.buckets[at]++;
  service.sum_s += seconds;
}

/* 0 when the work was started. */
static int start_request(int peer) {
  const struct options *o = service.o;
  if (service.in_flight >= MAX_REQUESTS) {
    service.shed++;
    return -1;
  }
  uint64_t tag = ++service.next_tag;
  uint64_t spread =
      o->base_high_ms > o->base_low_ms ? (o->base_high_ms - o->base_low_ms) * 1000ull : 1;
  uint64_t us = o->base_low_ms * 1000ull + mix(o->seed, tag) % spread;
  struct sim_request q = {.magic = SIM_PROTOCOL,
                          .op = SIM_LAUNCH,
                          .tag = tag,
                          .device = service.device,
                          .a = us ? us : 1,
                          .b = o->demand};
  if (send(service.driver, &q, sizeof q, MSG_NOSIGNAL) != (ssize_t)sizeof q)
    fail("the driver is gone");
  service.requests[service.in_flight++] = (struct request){tag, now_ns(), peer, 0};
  return 0;
}

static void end_request(uint32_t at, uint32_t status) {
  struct request r = service.requests[at];
  service.requests[at] = service.requests[--service.in_flight];
  double seconds = (double)(now_ns() - r.since_ns) / 1e9;
  char body[96];
  snprintf(body, sizeof body, "{\"seconds\":%.6f}\n", seconds);
  if (!r.timed_out && status) service.device_errors++;
  if (!r.timed_out && !status) service.ok++;
  if (!status && !r.timed_out) observe(seconds);
  if (r.peer >= 0 && service.peers[r.peer].waiting)
    respond(r.peer, status ? "500 Internal Server Error" : "200 OK", "application/json", body);
}

static void take_completions(void) {
  struct sim_reply reply;
  for (;;) {
    ssize_t n = recv(service.driver, &reply, sizeof reply, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n != (ssize_t)sizeof reply) fail("the driver is gone");
    for (uint32_t i = 0; i < service.in_flight; i++)
      if (service.requests[i].tag == reply.tag) {
        end_request(i, reply.status);
        break;
      }
  }
}

/* The caller gives up; the work stays on the device until it completes. */
static void time_out(uint64_t now) {
  for (uint32_t i = 0; i < service.in_flight; i++) {
    struct request *r = &service.requests[i];
    if (r->timed_out || now < r->since_ns + service.o->timeout_ms * 1000000ull) continue;
    r->timed_out = 1;
    service.timeouts++;
    observe((double)(now - r->since_ns) / 1e9);
    if (r->peer >= 0 && service.peers[r->peer].waiting)
      respond(r->peer, "504 Gateway Timeout", "text/plain", "timed out\n");
    r->peer = -1;
  }
}

/* --- the page --- */

static size_t add(char *page, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static size_t add(char *page, size_t at, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(page + at, PAGE_BYTES - at, format, args);
  va_end(args);
  return n > 0 && at + (size_t)n < PAGE_BYTES ? at + (size_t)n : at;
}

static void metrics(int peer) {
  static char page[PAGE_BYTES];
  typedef unsigned long long ull;
  uint64_t cumulative = 0;
  size_t n = add(page, 0,
                 "# HELP http_request_duration_seconds Time to answer a request.\n# TYPE "
                 "http_request_duration_seconds histogram\n");
  for (size_t i = 0; i < BOUNDS; i++) {
    cumulative += service.buckets[i];
    n = add(page, n, "http_request_duration_seconds_bucket{le=\"%g\"} %llu\n", bounds_s[i],
            (ull)cumulative);
  }
  cumulative += service.buckets[BOUNDS];
  n = add(
      page, n,
      "http_request_duration_seconds_bucket{le=\"+Inf\"} %llu\nhttp_request_duration_seconds_sum "
      "%.6f\nhttp_request_duration_seconds_count %llu\n",
      (ull)cumulative, service.sum_s, (ull)cumulative);
  n = add(page, n,
          "# HELP http_requests_total Requests answered, by status.\n# TYPE http_requests_total "
          "counter\nhttp_requests_total{code=\"200\"} %llu\nhttp_requests_total{code=\"500\"} "
          "%llu\nhttp_requests_total{code=\"503\"} %llu\nhttp_requests_total{code=\"504\"} %llu\n",
          (ull)service.ok, (ull)service.device_errors, (ull)service.shed, (ull)service.timeouts);
  uint64_t oldest = 0, now = now_ns();
  for (uint32_t i = 0; i < service.in_flight; i++)
    if (now - service.requests[i].since_ns > oldest) oldest = now - service.requests[i].since_ns;
  n = add(page, n,
          "# HELP http_requests_in_flight Requests not answered yet.\n# TYPE "
          "http_requests_in_flight gauge\nhttp_requests_in_flight %u\n",
          service.in_flight);
  n = add(page, n,
          "# HELP http_request_oldest_seconds Age of the oldest request not answered yet.\n# TYPE "
          "http_request_oldest_seconds gauge\nhttp_request_oldest_seconds %.6f\n",
          (double)oldest / 1e9);
  n = add(page, n,
          "# HELP inference_slo_seconds Latency objective of the service.\n# TYPE "
          "inference_slo_seconds gauge\ninference_slo_seconds %g\n",
          service.o->slo_ms / 1000.0);
  add(page, n,
      "# HELP process_start_time_seconds Start of the process, Unix time.\n# TYPE "
      "process_start_time_seconds gauge\nprocess_start_time_seconds %llu\n",
      (ull)service.started_s);
  respond(peer, "200 OK", "text/plain; version=0.0.4; charset=utf-8", page);
}

/* --- HTTP, as little as a scraper needs --- */

static void serve_peer(int i) {
  struct peer *p = &service.peers[i];
  ssize_t n = recv(p->fd, p->in + p->have, sizeof p->in - 1 - p->have, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    for (uint32_t k = 0; k < service.in_flight; k++)
      if (service.requests[k].peer == i) service.requests[k].peer = -1;
    close_peer(i);
    return;
  }
  if (p->waiting) return;
  p->have += (size_t)n;
  p->in[p->have] = 0;
  if (!memmem(p->in, p->have, "\r\n\r\n", 4)) {
    if (p->have == sizeof p->in - 1)
      respond(i, "431 Request Header Fields Too Large", "text/plain", "too large\n");
    return;
  }
  if (!strncmp(p->in, "GET /metrics ", 13))
    metrics(i);
  else if (!strncmp(p->in, "GET /healthz ", 13))
    respond(i, "200 OK", "text/plain", "ok\n");
  else if (!strncmp(p->in, "GET /infer ", 11)) {
    p->waiting = 1;
    p->have = 0;
    if (start_request(i)) respond(i, "503 Service Unavailable", "text/plain", "overloaded\n");
  } else
    respond(i, "404 Not Found", "text/plain", "not found\n");
}

static void accept_peer(void) {
  int fd = accept4(service.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  for (int i = 0; i < MAX_PEERS; i++)
    if (service.peers[i].fd < 0) {
      service.peers[i] = (struct peer){.fd = fd, .since_ns = now_ns()};
      return;
    }
  close(fd);
}

static void drop_idle_peers(uint64_t now) {
  for (int i = 0; i < MAX_PEERS; i++)
    if (service.peers[i].fd >= 0 && !service.peers[i].waiting &&
        now > service.peers[i].since_ns + 10000000000ull)
      close_peer(i);
}

static void listen_on(uint32_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int on = 1;
  service.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (service.listener < 0) fail("socket: %s", strerror(errno));
  setsockopt(service.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(service.listener, (struct sockaddr *)&address, sizeof address) ||
      listen(service.listener, 32))
    fail("port %u: %s", port, strerror(errno));
  socklen_t size = sizeof address;
  getsockname(service.listener, (struct sockaddr *)&address, &size);
  printf("port %u\nready\n", ntohs(address.sin_port));
  fflush(stdout);
}

static void one_round(void) {
  struct pollfd fds[2 + MAX_PEERS] = {{service.driver, POLLIN, 0}, {service.listener, POLLIN, 0}};
  for (int i = 0; i < MAX_PEERS; i++) fds[2 + i] = (struct pollfd){service.peers[i].fd, POLLIN, 0};
  uint64_t now = now_ns();
  int64_t wait = ((int64_t)(service.next_ns - now) + 999999) / 1000000;
  int n = poll(fds, 2 + MAX_PEERS, wait < 0 ? 0 : (int)wait);
  now = now_ns();
  if (n > 0 && fds[0].revents) take_completions();
  for (int i = 0; n > 0 && i < MAX_PEERS; i++)
    if (fds[2 + i].fd >= 0 && fds[2 + i].fd == service.peers[i].fd && fds[2 + i].revents)
      serve_peer(i);
  if (n > 0 && fds[1].revents) accept_peer();
  if (now >= service.next_ns) {
    uint64_t step = service.o->interval_ms * 1000000ull;
    time_out(now);
    drop_idle_peers(now);
    start_request(-1);
    service.next_ns = service.next_ns + 4 * step < now
                          ? now + step
                          : service.next_ns + step; /* frozen: no catching up */
  }
}

int run_serve(const struct options *o) {
  struct sim_reply reply;
  if (!o->interval_ms) fail("--interval-ms: expected at least 1");
  service.o = o;
  service.driver = connect_driver(o->kind, 0);
  service.device = visible_device(service.driver, o->device);
  service.started_s = (uint64_t)time(NULL);
  if (o->size && call(service.driver, SIM_ALLOC, service.device, o->size, 0, NULL, &reply))
    fail("out of memory");
  if (o->load) call(service.driver, SIM_LOAD, service.device, o->load, 0, NULL, &reply);
  for (int i = 0; i < MAX_PEERS; i++) service.peers[i].fd = -1;
  listen_on(o->port);
  service.next_ns = now_ns() + o->interval_ms * 1000000ull;
  for (;;) one_round();
}
