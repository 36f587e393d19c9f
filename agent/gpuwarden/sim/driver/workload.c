/* A GPU program for the simulated driver, static, so that it runs in any container:
 *
 *   workload hold  --size 1GiB                            allocates and stays
 *   workload hog   --size 8GiB --rate 2GiB/s              grows
 *   workload serve --size 2GiB --port 9000                serves inference requests
 *
 * All take --device N (the n-th of NVIDIA_VISIBLE_DEVICES), --load N (steady demand, thousandths
 * of the device), --kind compute|graphics|mps, --ignore-term, --seed N, --exit-after-ms N (ends by
 * itself with status 0). Prints "ready" when its memory is there. The options of one command are
 * above its function.
 */
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static void obey_term(int number) {
  _exit(128 + number);
}
static void time_is_up(int number) {
  (void)number;
  _exit(0);
}

/* "8GiB", "512MiB", "2GiB/s", "1048576" */
static uint64_t bytes(const char *text, const char *option, int is_rate) {
  static const struct {
    const char *suffix;
    unsigned shift;
  } units[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  char *end;
  errno = 0;
  double v = strtod(text, &end);
  char unit[8] = "";
  size_t length = strcspn(end, "/");
  if (length < sizeof unit) memcpy(unit, end, length);
  int tail_fits = end[length] == 0 || (is_rate && !strcmp(end + length, "/s"));
  for (unsigned i = 0; i < sizeof units / sizeof *units; i++) {
    double size = v * (double)(1ull << units[i].shift);
    if (!errno && end != text && tail_fits && v >= 0 && size < 1e15 && length < sizeof unit &&
        !strcmp(unit, units[i].suffix))
      return (uint64_t)size;
  }
  fail("--%s: expected bytes like 8GiB%s, got \"%s\"", option, is_rate ? "/s" : "", text);
}

static uint32_t number(const char *text, const char *option, uint32_t high) {
  char *end;
  errno = 0;
  unsigned long v = strtoul(text, &end, 10);
  if (errno || end == text || *end || *text == '-' || v > high)
    fail("--%s: expected 0 to %u, got \"%s\"", option, high, text);
  return (uint32_t)v;
}

static uint32_t kind(const char *text) {
  if (!strcmp(text, "compute")) return SIM_COMPUTE;
  if (!strcmp(text, "graphics")) return SIM_GRAPHICS;
  if (!strcmp(text, "mps")) return SIM_COMPUTE | SIM_MPS;
  fail("--kind: expected compute, graphics or mps, got \"%s\"", text);
}

enum {
  SIZE = 256,
  START,
  RATE,
  DEVICE,
  TERM,
  CHILDREN,
  LOCK,
  PERSISTENT,
  XID,
  LOAD,
  LATE,
  STEP,
  PORT,
  DEMAND,
  INTERVAL,
  LOW,
  HIGH,
  SLO,
  TIMEOUT,
  AFTER,
  WHEN,
  EXIT,
  ZOMBIE,
  KIND,
  SEED
};

static void one_option(int c, const char *name, struct options *o) {
  switch (c) {
    case SIZE: o->size = bytes(optarg, name, 0); break;
    case START: o->start_size = bytes(optarg, name, 0); break;
    case RATE: o->rate = bytes(optarg, name, 1); break;
    case DEVICE: o->device = number(optarg, name, SIM_MAX_DEVICES - 1); break;
    case TERM: o->ignore_term = 1; break;
    case CHILDREN: o->children = number(optarg, name, 64); break;
    case LOCK: o->lock_up_at = bytes(optarg, name, 0); break;
    case PERSISTENT: o->persistent = 1; break;
    case XID: o->xid = number(optarg, name, 999); break;
    case LOAD: o->load = number(optarg, name, 8000); break;
    case LATE: o->late_load = number(optarg, name, 8000); break;
    case STEP: o->step_ms = number(optarg, name, 10000); break;
    case PORT: o->port = number(optarg, name, 65535); break;
    case DEMAND: o->demand = number(optarg, name, 8000); break;
    case INTERVAL: o->interval_ms = number(optarg, name, 60000); break;
    case LOW: o->base_low_ms = number(optarg, name, 60000); break;
    case HIGH: o->base_high_ms = number(optarg, name, 60000); break;
    case SLO: o->slo_ms = number(optarg, name, 600000); break;
    case TIMEOUT: o->timeout_ms = number(optarg, name, 600000); break;
    case AFTER: o->start_after_ms = number(optarg, name, 600000); break;
    case WHEN: o->start_when = optarg; break;
    case EXIT: o->exit_after_ms = number(optarg, name, 600000); break;
    case ZOMBIE: o->zombie_s = number(optarg, name, 3600); break;
    case KIND: o->kind = kind(optarg); break;
    case SEED: o->seed = strtoull(optarg, NULL, 10); break;
    default: _exit(2);
  }
}

static void parse(int argc, char **argv, struct options *o) {
  static const struct option known[] = {{"size", 1, 0, SIZE},
                                        {"start-size", 1, 0, START},
                                        {"rate", 1, 0, RATE},
                                        {"device", 1, 0, DEVICE},
                                        {"ignore-term", 0, 0, TERM},
                                        {"children", 1, 0, CHILDREN},
                                        {"lock-up-at", 1, 0, LOCK},
                                        {"persistent", 0, 0, PERSISTENT},
                                        {"xid", 1, 0, XID},
                                        {"load", 1, 0, LOAD},
                                        {"late-load", 1, 0, LATE},
                                        {"step-ms", 1, 0, STEP},
                                        {"port", 1, 0, PORT},
                                        {"demand", 1, 0, DEMAND},
                                        {"interval-ms", 1, 0, INTERVAL},
                                        {"base-low-ms", 1, 0, LOW},
                                        {"base-high-ms", 1, 0, HIGH},
                                        {"slo-ms", 1, 0, SLO},
                                        {"timeout-ms", 1, 0, TIMEOUT},
                                        {"start-after-ms", 1, 0, AFTER},
                                        {"start-when", 1, 0, WHEN},
                                        {"exit-after-ms", 1, 0, EXIT},
                                        {"zombie-s", 1, 0, ZOMBIE},
                                        {"kind", 1, 0, KIND},
                                        {"seed", 1, 0, SEED},
                                        {0, 0, 0, 0}};
  int at = 0;
  for (int c; (c = getopt_long(argc, argv, "", known, &at)) != -1;)
    one_option(c, c == '?' ? "" : known[at].name, o);
  if (optind < argc) fail("unexpected argument \"%s\"", argv[optind]);
}

int main(int argc, char **argv) {
  struct options o = {.kind = SIM_COMPUTE,
                      .step_ms = 10,
                      .demand = 100,
                      .interval_ms = 20,
                      .base_low_ms = 40,
                      .base_high_ms = 150,
                      .slo_ms = 300,
                      .timeout_ms = 5000};
  if (argc < 2) fail("expected a command: hold, hog or serve");
  parse(argc - 1, argv + 1, &o);
  /* explicit, because the first process of a container ignores what it does not handle */
  struct sigaction term = {.sa_handler = o.ignore_term ? SIG_IGN : obey_term};
  sigaction(SIGTERM, &term, NULL);
  struct sigaction interrupt = {.sa_handler = obey_term};
  sigaction(SIGINT, &interrupt, NULL);
  signal(SIGPIPE, SIG_IGN);
  if (o.exit_after_ms) {
    signal(SIGALRM, time_is_up);
    struct itimerval due = {.it_value = {o.exit_after_ms / 1000, o.exit_after_ms % 1000 * 1000}};
    setitimer(ITIMER_REAL, &due, NULL);
  }
  if (!strcmp(argv[1], "hold")) return run_hold(&o);
  if (!strcmp(argv[1], "hog")) return run_hog(&o);
  if (!strcmp(argv[1], "serve")) return run_serve(&o);
  fail("unknown command \"%s\": expected hold, hog or serve", argv[1]);
}
