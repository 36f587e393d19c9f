/* Inside the driver process: its private state and the functions of its parts. One thread, one
 * epoll loop; nothing here blocks. */
#ifndef DRIVER_H
#define DRIVER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "abi.h"
#include "protocol.h"
#include "simstate.h"

#define MAX_CLIENTS 4096
#define MAX_LAUNCHES 2048 /* outstanding on one device */
#define LOG_ENTRIES 65536
#define TICK_MS 100
#define FULL_DEMAND 1000u
#define DRIVER_VERSION "615.71.01"

struct client {
  int fd; /* -1: free slot */
  uint32_t role, kind;
  pid_t pid;
  uid_t uid;
  uint64_t bytes[SIM_MAX_DEVICES][SIM_MAX_MIG + 1];
  uint32_t load[SIM_MAX_DEVICES]; /* thousandths of the device */
  uint32_t launches;
  uint16_t limit[SIM_MAX_DEVICES]; /* index + 1 of the limit that is charged */
  double work_us[SIM_MAX_DEVICES]; /* device time used since the last sample */
  uint64_t events[SIM_MAX_DEVICES];
};

struct launch {
  uint32_t client, demand;
  uint64_t tag;
  double left_us;
};

struct device {
  struct launch launches[MAX_LAUNCHES];
  uint32_t launch_count;
  uint64_t advanced_ns;
  uint32_t load;           /* sum of the clients' steady demand */
  double busy_us, work_us; /* since the last tick */
  int persistent_lockup;
  int forced_temp_c; /* 0: follows the load */
  uint64_t forced_reasons;
  uint32_t forced_pcie_gen; /* 0: as fast as it can */
  double temp_c;
};

struct log_entry {
  uint64_t at_ns, bytes, device_used;
  uint32_t pid, device;
  int64_t change;
};

struct driver {
  struct sim_state *state;
  _Atomic uint64_t *counters;
  const char *dir;
  uint64_t seed, tick;
  uid_t uid;
  int epoll, stop;
  struct client *clients;
  uint32_t client_top; /* slots in use lie below it */
  struct device devices[SIM_MAX_DEVICES];
  struct log_entry *log;
  uint64_t log_count; /* entries ever written; the ring keeps the last LOG_ENTRIES */
  char *limit_paths[SIM_MAX_LIMITS];
  uint64_t leaked_reservation;
  uint64_t load_at_ns; /* when a reload ends; 0: none under way */
  struct {
    uint64_t events_dropped, replies_dropped, launches_refused, clients_refused, malformed,
        kmsg_overruns;
  } stats;
};

extern struct driver driver;

static inline struct sim_device *public_of(uint32_t record) {
  return &driver.state->devices[record];
}
static inline void write_begin(struct sim_device *dev) {
  atomic_fetch_add_explicit(&dev->seq, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
}
static inline void write_end(struct sim_device *dev) {
  atomic_fetch_add_explicit(&dev->seq, 1, memory_order_release);
}
/* Changes of one device's public record; readers never see half of them. */
#define WRITE(dev, ...) \
  do {                  \
    write_begin(dev);   \
    __VA_ARGS__;        \
    write_end(dev);     \
  } while (0)

/* driverd.c */
uint64_t monotonic_ns(void);
uint64_t realtime_us(void);
enum watch_kind {
  WATCH_DRIVER_SOCKET,
  WATCH_CLIENT,
  WATCH_CONTROL_SOCKET,
  WATCH_CONTROL,
  WATCH_KMSG_SOCKET,
  WATCH_KMSG,
  WATCH_TICK,
  WATCH_LAUNCH,
  WATCH_SIGNAL
};
int watch(int fd, enum watch_kind kind, uint32_t index, uint32_t events);
void rewatch(int fd, enum watch_kind kind, uint32_t index, uint32_t events);
int listen_at(const char *name, int type, mode_t mode);
void arm_launch_timer(uint64_t at_ns); /* 0: disarm */

/* boards.c */
const char *board_profiles(void);
int make_boards(const char *profile, uint32_t count, uint32_t fans, const char *mig_devices);
void reset_volatile(uint32_t record);
uint64_t draw(uint64_t seed, uint64_t a, uint64_t b); /* a pure hash: the only source of chance */

/* clients.c */
void accept_clients(int listener);
void serve_client(uint32_t index);
void close_client(uint32_t index);
int send_reply(uint32_t index, const struct sim_reply *reply);

/* holdings.c */
uint32_t change_holding(uint32_t client, uint32_t record, uint32_t mig, int64_t change);
void release_holdings(uint32_t client);
int pid_holds(pid_t pid, uint32_t record);
void finish_accounting(struct sim_device *dev, const struct sim_proc *p, int running);

/* limits.c */
uint32_t set_limit(uint32_t client, uint32_t record, uint64_t soft, uint64_t hard,
                   const char *path);
uint32_t get_limit(uint32_t record, const char *path, struct sim_reply *reply);
uint64_t limit_of(uint32_t client, uint32_t record);
int limit_allows(uint32_t client, uint32_t record, uint64_t more);
void charge_limit(uint32_t client, uint32_t record, int64_t change);
void sweep_limits(void);

/* compute.c */
uint32_t launch(uint32_t client, uint32_t record, uint64_t tag, uint64_t us, uint64_t demand);
void set_load(uint32_t client, uint32_t record, uint32_t demand);
void advance(uint32_t record, uint64_t now);
void drop_launches(uint32_t client);
void fail_launches(uint32_t record, uint32_t status);
void complete_launches(void);

/* dynamics.c */
void tick(void);

/* events.c */
void raise_event(uint32_t record, uint64_t type, uint64_t data, uint32_t mig);
void raise_xid(uint32_t record, uint32_t number, pid_t pid, const char *text, uint32_t mig);
void set_recovery_action(uint32_t record, uint32_t action);
void lock_up(uint32_t record, pid_t offender, int persistent, uint32_t xid);
void unlock(uint32_t record);
void offender_gone(pid_t pid);
void lose(uint32_t record);
int reset_device(uint32_t record, int force);
void reload(uint32_t away_ms, uint32_t shift);

/* kmsg.c */
void kmsg_start(void);
void kernel_line(uint32_t facility, uint32_t level, const char *text);
void accept_kmsg(int listener);
void serve_kmsg(uint32_t index, uint32_t events);

/* control.c */
void accept_control(int listener);
void serve_control(uint32_t index, uint32_t events);

#endif
