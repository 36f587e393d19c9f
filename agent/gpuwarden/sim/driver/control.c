/* control.sock: one JSON object a line, answered by one JSON object a line.
 *
 *   {"id": 7, "cmd": "xid", "device": 0, "xid": 79}     ->  {"id":7,"ok":true}
 *   {"id": 8, "cmd": "xid", "device": 99, "xid": 79}    ->  {"id":8,"ok":false,"error":"device:
 * ..."}
 *
 * "device" is an NVML index or a UUID ("MIG-..." too). Queries are in queries.c, injections in
 * injections.c, each command above its function. Only the driver's own user and root connect.
 */
#define _GNU_SOURCE
#include "control.h"
#include "driver.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONTROLLERS 32
#define LINE_BYTES 8192
#define REPLY_BYTES (8u << 20)

static struct controller {
  int fd;
  size_t have;
  char line[LINE_BYTES];
  struct json_out out;
  size_t sent;
} controllers[MAX_CONTROLLERS];
static int started;

static void close_controller(struct controller *c) {
  close(c->fd);
  free(c->out.text);
  c->out = (struct json_out){0};
  c->fd = -1;
}

void accept_control(int listener) {
  if (!started) {
    for (int i = 0; i < MAX_CONTROLLERS; i++) controllers[i].fd = -1;
    started = 1;
  }
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  struct ucred peer;
  socklen_t size = sizeof peer;
  int allowed = !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
                (peer.uid == 0 || peer.uid == driver.uid);
  for (uint32_t i = 0; allowed && i < MAX_CONTROLLERS; i++) {
    if (controllers[i].fd >= 0) continue;
    controllers[i].fd = fd;
    controllers[i].have = controllers[i].sent = 0;
    if (watch(fd, WATCH_CONTROL, i, EPOLLIN)) close_controller(&controllers[i]);
    return;
  }
  driver.stats.clients_refused++;
  close(fd);
}

/* --- arguments --- */

int arg_natural(const struct json_object *args, const char *key, uint64_t high, uint64_t *out) {
  const struct json_value *v = json_find(args, key);
  if (!v || v->type == JSON_NULL) return 0;
  if (v->type == JSON_REAL) {
    if (v->real < 0 || v->real > (double)high) return -1;
    *out = (uint64_t)v->real;
    return 0;
  }
  if (v->type != JSON_INTEGER || (!v->natural && v->integer < 0) || v->natural > high) return -1;
  *out = v->natural;
  return 0;
}
const char *arg_text(const struct json_object *args, const char *key) {
  const struct json_value *v = json_find(args, key);
  return v && v->type == JSON_STRING ? v->text : NULL;
}
int arg_true(const struct json_object *args, const char *key) {
  const struct json_value *v = json_find(args, key);
  return v && (v->type == JSON_BOOL || v->type == JSON_INTEGER) && v->integer;
}
int arg_device(const struct json_object *args, uint32_t *record, uint32_t *mig) {
  const struct json_value *v = json_find(args, "device");
  *mig = 0;
  if (v && v->type == JSON_INTEGER && v->integer >= 0 && v->natural < driver.state->device_count) {
    *record = atomic_load(&driver.state->order[v->natural]);
    return 0;
  }
  for (uint32_t d = 0; v && v->type == JSON_STRING && d < driver.state->device_count; d++) {
    const struct sim_device *dev = public_of(d);
    *record = d;
    if (!strcmp(v->text, dev->id.uuid)) return 0;
    for (uint32_t m = 0; m < SIM_MAX_MIG; m++)
      if (dev->mig[m].in_use && !strcmp(v->text, dev->mig[m].uuid)) {
        *mig = m + 1;
        return 0;
      }
  }
  return -1;
}

command find_command(const char *name) {
  command c = find_query(name);
  return c ? c : find_injection(name);
}

/* --- lines --- */

static void obey(char *line, struct json_out *out) {
  struct json_object args;
  struct json_out body = {.bound = REPLY_BYTES};
  const char *error = NULL, *name = NULL;
  uint64_t id = 0;
  if (json_parse(line, &args))
    error = "expected one flat JSON object";
  else if (arg_natural(&args, "id", UINT64_MAX, &id))
    error = "id: expected a number";
  else if (!(name = arg_text(&args, "cmd")))
    error = "cmd: missing";
  command run = error ? NULL : find_command(name);
  if (!error) error = run ? run(&args, &body) : "cmd: unknown";
  if (!error && body.failed) error = "the reply is too large; ask for less";
  json_raw(out, "{\"id\":%llu,", (unsigned long long)id);
  if (error) {
    json_raw(out, "\"ok\":false,\"error\":");
    json_string(out, error);
  } else {
    json_raw(out, "%s\"ok\":true", body.text ? body.text : "");
  }
  json_raw(out, "}\n");
  free(body.text);
}

static void flush(struct controller *c, uint32_t index) {
  while (c->sent < c->out.length) {
    ssize_t n =
        send(c->fd, c->out.text + c->sent, c->out.length - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n <= 0) {
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
      close_controller(c);
      return;
    }
    c->sent += (size_t)n;
  }
  int pending = c->sent < c->out.length;
  if (!pending) c->sent = c->out.length = 0;
  rewatch(c->fd, WATCH_CONTROL, index, EPOLLIN | (pending ? EPOLLOUT : 0));
}

void serve_control(uint32_t index, uint32_t events) {
  if (index >= MAX_CONTROLLERS || controllers[index].fd < 0) return;
  struct controller *c = &controllers[index];
  if (events & EPOLLOUT) flush(c, index);
  if (c->fd < 0 || c->out.length) return; /* answers first: one that does not read gets no more */
  ssize_t got = recv(c->fd, c->line + c->have, sizeof c->line - c->have, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    close_controller(c);
    return;
  }
  c->have += (size_t)got;
  c->out.bound = REPLY_BYTES * 2;
  for (char *end; (end = memchr(c->line, '\n', c->have));) {
    *end = 0;
    int has_nul = strlen(c->line) != (size_t)(end - c->line);
    if (has_nul) {
      close_controller(c);
      return;
    }
    obey(c->line, &c->out);
    size_t used = (size_t)(end + 1 - c->line);
    memmove(c->line, end + 1, c->have - used);
    c->have -= used;
  }
  if (c->have == sizeof c->line || c->out.failed) { /* a line beyond the bound */
    driver.stats.malformed++;
    close_controller(c);
    return;
  }
  flush(c, index);
}
