/* The driver process: options, sockets, the loop.
 *
 *   driverd --dir DIR [--devices N] [--profile P] [--seed S] [--fans N] [--mig 0,3]
 *
 * Prints "ready" on standard output once clients can connect, and ends on SIGTERM, SIGINT, the
 * control command "shutdown", or when its standard input closes (with --stdin-holds), so that it
 * cannot outlive the program that started it. With --owns-dir the folder goes with it.
 */
#define _GNU_SOURCE
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "symbol_ids.h"

struct driver driver;
static int tick_timer, launch_timer, signals;
static int driver_socket, control_socket, kmsg_socket;

static _Noreturn void die(const char *what) {
  fprintf(stderr, "driverd: %s: %s\n", what, strerror(errno));
  exit(1);
}
static _Noreturn void refuse(const char *what, const char *value) {
  fprintf(stderr, "driverd: %s: \"%s\"\n", what, value);
  exit(2);
}

uint64_t monotonic_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
uint64_t realtime_us(void) {
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t watch_word(enum watch_kind kind, uint32_t index) {
  return (uint64_t)kind << 32 | index;
}
int watch(int fd, enum watch_kind kind, uint32_t index, uint32_t events) {
  struct epoll_event e = {.events = events, .data.u64 = watch_word(kind, index)};
  return epoll_ctl(driver.epoll, EPOLL_CTL_ADD, fd, &e);
}
void rewatch(int fd, enum watch_kind kind, uint32_t index, uint32_t events) {
  struct epoll_event e = {.events = events, .data.u64 = watch_word(kind, index)};
  epoll_ctl(driver.epoll, EPOLL_CTL_MOD, fd, &e);
}

static void path_in_dir(const char *name, char *out, size_t size) {
  int n = snprintf(out, size, "%s/%s", driver.dir, name);
  if (n < 0 || (size_t)n >= size) {
    errno = ENAMETOOLONG;
    die(driver.dir);
  }
}

int listen_at(const char *name, int type, mode_t mode) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  path_in_dir(name, address.sun_path, sizeof address.sun_path);
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) die("socket");
  unlink(address.sun_path);
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) die(address.sun_path);
  if (chmod(address.sun_path, mode)) die(address.sun_path);
  if (listen(fd, 256)) die(address.sun_path);
  return fd;
}

/* A fresh file, renamed into place: clients of an earlier driver keep their own. */
static void *shared_file(const char *name, size_t size, mode_t mode) {
  char path[512], fresh[512];
  path_in_dir(name, path, sizeof path);
  path_in_dir("fresh", fresh, sizeof fresh);
  unlink(fresh);
  int fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
  if (fd < 0 || fchmod(fd, mode) || ftruncate(fd, (off_t)size)) die(fresh);
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) die("mmap");
  close(fd);
  if (rename(fresh, path)) die(path);
  return p;
}

void arm_launch_timer(uint64_t at_ns) {
  struct itimerspec when = {
      .it_value = {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)}};
  timerfd_settime(launch_timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static uint64_t number(const char *text, uint64_t low, uint64_t high, const char *what) {
  char *end;
  errno = 0;
  unsigned long long v = strtoull(text, &end, 0);
  if (errno || end == text || *end || text[0] == '-' || v < low || v > high) refuse(what, text);
  return v;
}

static int hold_by_stdin, owns_dir;

static void options(int argc, char **argv, const char **profile, uint32_t *devices, uint32_t *fans,
                    const char **mig) {
  static const struct option known[] = {
      {"dir", 1, 0, 'd'},         {"devices", 1, 0, 'n'},  {"profile", 1, 0, 'p'},
      {"seed", 1, 0, 's'},        {"fans", 1, 0, 'f'},     {"mig", 1, 0, 'm'},
      {"stdin-holds", 0, 0, 'h'}, {"owns-dir", 0, 0, 'o'}, {0, 0, 0, 0}};
  for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (c) {
      case 'd': driver.dir = optarg; break;
      case 'n':
        *devices = (uint32_t)number(optarg, 1, SIM_MAX_DEVICES, "--devices: expected 1 to 16");
        break;
      case 'p': *profile = optarg; break;
      case 's': driver.seed = number(optarg, 0, UINT64_MAX, "--seed: expected a number"); break;
      case 'f': *fans = (uint32_t)number(optarg, 0, 8, "--fans: expected 0 to 8"); break;
      case 'm': *mig = optarg; break;
      case 'h': hold_by_stdin = 1; break;
      case 'o': owns_dir = 1; break;
      default: exit(2);
    }
  }
  if (optind < argc) refuse("unexpected argument", argv[optind]);
  if (!driver.dir || driver.dir[0] != '/')
    refuse("--dir: expected an absolute path", driver.dir ? driver.dir : "");
}

static void prepare_state(void) {
  driver.counters = shared_file("counters", SIM_MAX_SYMBOLS * sizeof(uint64_t), 0666);
  driver.state = shared_file("state", sizeof *driver.state, 0644);
  struct sim_state *s = driver.state;
  s->magic = SIM_MAGIC;
  s->layout = SIM_LAYOUT;
  s->size = sizeof *s;
  s->driver_pid = (uint32_t)getpid();
  s->seed = driver.seed;
  s->started_ns = monotonic_ns();
  s->symbol_count = SYM_COUNT;
  snprintf(s->driver_version, sizeof s->driver_version, DRIVER_VERSION);
  snprintf(s->nvml_version, sizeof s->nvml_version, "13." DRIVER_VERSION);
  snprintf(s->driver_branch, sizeof s->driver_branch, "r615_00");
  s->cuda_version = 13040;
  atomic_store(&s->generation, 1);
}

static void open_all(void) {
  driver.epoll = epoll_create1(EPOLL_CLOEXEC);
  tick_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  launch_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  sigprocmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (driver.epoll < 0 || tick_timer < 0 || launch_timer < 0 || signals < 0)
    die("epoll, timerfd, signalfd");
  struct itimerspec every = {{0, TICK_MS * 1000000}, {0, TICK_MS * 1000000}};
  timerfd_settime(tick_timer, 0, &every, NULL);
  driver_socket = listen_at("driver.sock", SOCK_SEQPACKET, 0666);
  control_socket = listen_at("control.sock", SOCK_STREAM, 0600);
  kmsg_socket = listen_at("kmsg.sock", SOCK_SEQPACKET, 0600);
  int failed = watch(driver_socket, WATCH_DRIVER_SOCKET, 0, EPOLLIN) |
               watch(control_socket, WATCH_CONTROL_SOCKET, 0, EPOLLIN) |
               watch(kmsg_socket, WATCH_KMSG_SOCKET, 0, EPOLLIN) |
               watch(tick_timer, WATCH_TICK, 0, EPOLLIN) |
               watch(launch_timer, WATCH_LAUNCH, 0, EPOLLIN) |
               watch(signals, WATCH_SIGNAL, 0, EPOLLIN);
  if (hold_by_stdin) failed |= watch(0, WATCH_SIGNAL, 1, EPOLLIN | EPOLLHUP);
  if (failed) die("epoll_ctl");
}

static void signalled(uint32_t from_stdin) {
  char byte[64];
  if (from_stdin) {
    ssize_t n = read(0, byte, sizeof byte);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) return;
  }
  driver.stop = 1;
}

static void handle(const struct epoll_event *e) {
  uint32_t index = (uint32_t)e->data.u64;
  uint64_t expirations;
  switch ((enum watch_kind)(e->data.u64 >> 32)) {
    case WATCH_DRIVER_SOCKET: accept_clients(driver_socket); break;
    case WATCH_CLIENT: serve_client(index); break;
    case WATCH_CONTROL_SOCKET: accept_control(control_socket); break;
    case WATCH_CONTROL: serve_control(index, e->events); break;
    case WATCH_KMSG_SOCKET: accept_kmsg(kmsg_socket); break;
    case WATCH_KMSG: serve_kmsg(index, e->events); break;
    case WATCH_TICK:
      if (read(tick_timer, &expirations, sizeof expirations) > 0) tick();
      break;
    case WATCH_LAUNCH:
      if (read(launch_timer, &expirations, sizeof expirations) > 0) complete_launches();
      break;
    case WATCH_SIGNAL: signalled(index); break;
  }
}

/* Stuck callers are let go and the sockets disappear: nothing may wait for a driver that ended. */
static void leave(void) {
  for (unsigned i = 0; i < SIM_MAX_SYMBOLS; i++) {
    struct sim_fault *f = &driver.state->faults[i];
    for (unsigned d = 0; d <= SIM_MAX_DEVICES; d++) atomic_store(&f->hang[d], 0);
  }
  atomic_store(&driver.state->loaded, 0);
  static const char *const names[] = {"driver.sock", "control.sock", "kmsg.sock", "state",
                                      "counters", "nvidia-smi"};
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
    char path[512];
    path_in_dir(names[i], path, sizeof path);
    unlink(path);
  }
  if (owns_dir) rmdir(driver.dir);
}

int main(int argc, char **argv) {
  const char *profile = "A100-40", *mig = "";
  uint32_t devices = 1, fans = 0;
  options(argc, argv, &profile, &devices, &fans, &mig);
  struct rlimit files;
  if (!getrlimit(RLIMIT_NOFILE, &files)) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  driver.uid = geteuid();
  driver.clients = calloc(MAX_CLIENTS, sizeof *driver.clients);
  driver.log = calloc(LOG_ENTRIES, sizeof *driver.log);
  if (!driver.clients || !driver.log) die("memory");
  prepare_state();
  if (make_boards(profile, devices, fans, mig)) {
    fprintf(
        stderr,
        "driverd: --profile: expected one of %s; --mig: indices of devices whose profile has MIG\n",
        board_profiles());
    return 2;
  }
  open_all();
  kmsg_start();
  atomic_store(&driver.state->heartbeat_ns, monotonic_ns());
  atomic_store(&driver.state->loaded, 1);
  puts("ready");
  fflush(stdout);
  while (!driver.stop) {
    struct epoll_event events[64];
    int n = epoll_wait(driver.epoll, events, 64, -1);
    if (n < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < n; i++) handle(&events[i]);
  }
  leave();
  return 0;
}
