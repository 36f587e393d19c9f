/* The simulated kernel log: what the driver would print, with the read semantics of /dev/kmsg.
 *
 * kmsg.sock (SOCK_SEQPACKET) serves one record a datagram, in the text form of /dev/kmsg:
 *     PRIORITY,SEQUENCE,MICROSECONDS,-;TEXT\n        priority = facility * 8 + level
 * The ring has a fixed size in bytes; the oldest records make room. A client sends text datagrams:
 *     "seek first" | "seek end" | "seek N"    where to read on; a new client stands at the end
 *     "credit N"                              send me up to N more datagrams as they come
 * so a read is a recv (EAGAIN: nothing new), poll works, and at most the credit is buffered. Where
 * /dev/kmsg would fail with EPIPE because records were overwritten before they were read, the
 * client gets the datagram "!EPIPE" once, and reading goes on at the oldest record.
 */
#define _GNU_SOURCE
#include "control.h"
#include "driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING_BYTES (128u * 1024u)
#define MAX_RECORDS 4096
#define MAX_RECORD 1024
#define MAX_READERS 32
#define MAX_CREDIT 4096
#define MAX_OVERRUNS 1024

static struct {
  char *text[MAX_RECORDS];
  uint64_t first, next;
  size_t bytes;
} ring;
static struct reader {
  int fd;
  uint64_t at;
  uint32_t credit;
  int blocked;
} readers[MAX_READERS];

/* What was overwritten before a reader came to it: the last MAX_OVERRUNS of all readers. */
static struct {
  uint64_t from, to;
} overruns[MAX_OVERRUNS];

static size_t record_length(uint64_t sequence) {
  return strlen(ring.text[sequence % MAX_RECORDS]);
}

static void drop_oldest(void) {
  ring.bytes -= record_length(ring.first);
  free(ring.text[ring.first % MAX_RECORDS]);
  ring.text[ring.first % MAX_RECORDS] = NULL;
  ring.first++;
}

static void close_reader(struct reader *r) {
  close(r->fd);
  *r = (struct reader){.fd = -1};
}

/* 1 sent, 0 the socket is full, -1 the reader is gone. */
static int send_text(struct reader *r, const char *text, size_t length) {
  ssize_t n = send(r->fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n == (ssize_t)length) return 1;
  return n < 0 && (errno == EAGAIN || errno == ENOBUFS) ? 0 : -1;
}

static void feed(uint32_t index) {
  struct reader *r = &readers[index];
  int sent = 1;
  while (r->fd >= 0 && r->credit && sent > 0) {
    if (r->at < ring.first) {
      sent = send_text(r, "!EPIPE", 6);
      if (sent > 0) {
        uint64_t n = driver.stats.kmsg_overruns++ % MAX_OVERRUNS;
        overruns[n].from = r->at;
        overruns[n].to = r->at = ring.first;
      }
    } else if (r->at < ring.next) {
      sent = send_text(r, ring.text[r->at % MAX_RECORDS], record_length(r->at));
      r->at += sent > 0;
    } else {
      break;
    }
    r->credit -= sent > 0;
  }
  if (sent < 0) {
    close_reader(r);
    return;
  }
  int blocked = sent == 0;
  if (r->fd >= 0 && blocked != r->blocked) {
    r->blocked = blocked;
    rewatch(r->fd, WATCH_KMSG, index, EPOLLIN | (blocked ? EPOLLOUT : 0));
  }
}

/* What is not printable is written as \xNN, as the kernel does. */
static int append_escaped(char *out, int at, int size, const char *text) {
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (at + 5 >= size) break;
    if (c < 32 || c >= 127 || c == '\\')
      at += snprintf(out + at, (size_t)(size - at), "\\x%02x", c);
    else
      out[at++] = (char)c;
  }
  return at;
}

void kernel_line(uint32_t facility, uint32_t level, const char *text) {
  char record[MAX_RECORD];
  int at = snprintf(record, sizeof record, "%u,%llu,%llu,-;", (facility & 0xff) * 8 + (level & 7),
                    (unsigned long long)ring.next, (unsigned long long)(monotonic_ns() / 1000));
  at = append_escaped(record, at, (int)sizeof record - 2, text);
  record[at++] = '\n';
  record[at] = 0;
  while (ring.next > ring.first &&
         (ring.bytes + (size_t)at > RING_BYTES || ring.next - ring.first >= MAX_RECORDS))
    drop_oldest();
  char *copy = strdup(record);
  if (!copy) return;
  ring.text[ring.next % MAX_RECORDS] = copy;
  ring.bytes += (size_t)at;
  ring.next++;
  for (uint32_t i = 0; i < MAX_READERS; i++)
    if (readers[i].fd >= 0 && readers[i].credit && !readers[i].blocked) feed(i);
}

/* kernel_log -> {"first": number of the oldest record, "next": of the next one, "overruns": [[from,
 * to]]}: which records, the last not included, a reader was too late for */
const char *kernel_log(const struct json_object *args, struct json_out *out) {
  (void)args;
  json_raw(out, "\"first\":%llu,\"next\":%llu,\"overruns\":[", (unsigned long long)ring.first,
           (unsigned long long)ring.next);
  uint64_t known = driver.stats.kmsg_overruns;
  for (uint64_t i = 0; i < known && i < MAX_OVERRUNS; i++)
    json_raw(out, "%s[%llu,%llu]", i ? "," : "", (unsigned long long)overruns[i].from,
             (unsigned long long)overruns[i].to);
  json_raw(out, "],");
  return NULL;
}

void kmsg_start(void) {
  for (uint32_t i = 0; i < MAX_READERS; i++) readers[i].fd = -1;
  kernel_line(0, 6, "nvidia-nvlink: Nvlink Core is being initialized, major device number 511");
  char line[128];
  snprintf(line, sizeof line, "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  %s",
           driver.state->driver_version);
  kernel_line(0, 5, line);
}

void accept_kmsg(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  struct ucred peer;
  socklen_t size = sizeof peer;
  int known = !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
              (peer.uid == 0 || peer.uid == driver.uid);
  for (uint32_t i = 0; known && i < MAX_READERS; i++) {
    if (readers[i].fd >= 0) continue;
    readers[i] = (struct reader){.fd = fd, .at = ring.next};
    if (watch(fd, WATCH_KMSG, i, EPOLLIN)) close_reader(&readers[i]);
    return;
  }
  driver.stats.clients_refused++;
  close(fd);
}

/* "VERB 123" -> 1 and the number. */
static int with_number(const char *text, const char *verb, unsigned long long *n) {
  size_t length = strlen(verb);
  if (strncmp(text, verb, length) || text[length] < '0' || text[length] > '9') return 0;
  char *end;
  errno = 0;
  *n = strtoull(text + length, &end, 10);
  return !errno && !*end;
}

static int obey(struct reader *r, const char *text) {
  unsigned long long n;
  if (!strcmp(text, "seek first"))
    r->at = ring.first;
  else if (!strcmp(text, "seek end"))
    r->at = ring.next;
  else if (with_number(text, "seek ", &n))
    r->at = n < ring.next ? n : ring.next;
  else if (with_number(text, "credit ", &n))
    r->credit = n < MAX_CREDIT - r->credit ? (uint32_t)n + r->credit : MAX_CREDIT;
  else
    return -1;
  return 0;
}

void serve_kmsg(uint32_t index, uint32_t events) {
  struct reader *r = &readers[index];
  if (index >= MAX_READERS || r->fd < 0) return;
  char text[65];
  for (int n = 0; n < 16 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)); n++) {
    ssize_t got = recv(r->fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (got > 0 && (size_t)got < sizeof text) text[got] = 0;
    if (got <= 0 || (size_t)got >= sizeof text || obey(r, text)) {
      if (got > 0) driver.stats.malformed++;
      close_reader(r);
      return;
    }
  }
  feed(index);
}
