/* Memory limits per cgroup, with the semantics that the vendor documents for driver r615: they
 * belong to the very cgroup named (a limit on a parent does not reach its children), the hard
 * limit makes an allocation fail in the offender, the soft one reserves, and a leaf that
 * disappears before its soft limit was set to zero leaks the reservation.
 *
 * The vendor asks for cgroup v2. Here a path in any hierarchy of /proc/PID/cgroup counts, so that
 * limits can be shown on hosts that still run v1.
 */
#define _GNU_SOURCE
#include "driver.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define NO_LIMIT UINT64_MAX

static int exists_below(const char *hierarchy, const char *path) {
  char full[sizeof ROOT + 256 + SIM_MAX_TEXT];
  struct stat info;
  int n = snprintf(full, sizeof full, ROOT "%s%s%s", hierarchy[0] ? "/" : "", hierarchy, path);
  return n > 0 && (size_t)n < sizeof full && !stat(full, &info) && S_ISDIR(info.st_mode);
}

static int cgroup_exists(const char *path) {
  if (exists_below("", path)) return 1;
  DIR *root = opendir(ROOT);
  if (!root) return 0;
  int found = 0;
  for (struct dirent *e; !found && (e = readdir(root));)
    if (e->d_name[0] != '.' && exists_below(e->d_name, path)) found = 1;
  closedir(root);
  return found;
}

/* "/sys/fs/cgroup/memory/a/b/" and "/a/b" -> "/a/b"; a fresh string, or NULL. */
static char *canonical(const char *path) {
  size_t root = strlen(ROOT);
  if (!strncmp(path, ROOT "/", root + 1)) {
    path += root;
    /* of a v1 or hybrid mount the first name is the hierarchy: it has a cgroup.procs of its own,
       and so do its children; a v2 child is only one level below the root of all */
    char marker[sizeof ROOT + 32];
    snprintf(marker, sizeof marker, ROOT "/cgroup.controllers");
    if (access(marker, F_OK)) {
      const char *rest = strchr(path + 1, '/');
      path = rest ? rest : "/";
    }
  }
  if (path[0] != '/') return NULL;
  char *copy = strdup(path);
  if (!copy) return NULL;
  for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = 0;
  return copy;
}

/* Does the process live in exactly this cgroup, in any hierarchy? */
static int lives_in(const char *cgroups, const char *path) {
  size_t want = strlen(path);
  for (const char *line = cgroups; *line;) {
    size_t length = strcspn(line, "\n");
    const char *first = memchr(line, ':', length);
    const char *second = first ? memchr(first + 1, ':', length - (size_t)(first + 1 - line)) : NULL;
    if (second) {
      size_t have = length - (size_t)(second + 1 - line);
      if (have == want && !memcmp(second + 1, path, want)) return 1;
    }
    line += length + (line[length] == '\n');
  }
  return 0;
}

static int read_cgroups(pid_t pid, char *out, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  size_t have = 0;
  for (ssize_t n; have < size - 1 && (n = read(fd, out + have, size - 1 - have)) > 0;)
    have += (size_t)n;
  close(fd);
  out[have] = 0;
  return have ? 0 : -1;
}

static int any_limits(void) {
  return atomic_load(&driver.state->limits_generation) != 0;
}

static int find_slot(uint32_t record, const char *path) {
  for (int i = 0; i < SIM_MAX_LIMITS; i++)
    if (driver.state->limits[i].in_use && driver.state->limits[i].device == record &&
        !strcmp(driver.limit_paths[i], path))
      return i;
  return -1;
}

/* The limit that the client's process is under now; a dead process stays where it was charged. */
static int current_slot(uint32_t client, uint32_t record) {
  char cgroups[16384];
  const struct client *c = &driver.clients[client];
  if (read_cgroups(c->pid, cgroups, sizeof cgroups)) return (int)c->limit[record] - 1;
  for (int i = 0; i < SIM_MAX_LIMITS; i++) {
    const struct sim_limit *l = &driver.state->limits[i];
    if (l->in_use && l->device == record && lives_in(cgroups, driver.limit_paths[i])) return i;
  }
  return -1;
}

static uint64_t held(uint32_t client, uint32_t record) {
  uint64_t sum = 0;
  for (uint32_t m = 0; m <= SIM_MAX_MIG; m++) sum += driver.clients[client].bytes[record][m];
  return sum;
}

/* Moves the client's charge to the limit it is under now. */
static void recharge(uint32_t client, uint32_t record) {
  struct client *c = &driver.clients[client];
  int now = current_slot(client, record), before = (int)c->limit[record] - 1;
  if (now == before) return;
  uint64_t bytes = held(client, record);
  if (before >= 0) driver.state->limits[before].used -= bytes;
  if (now >= 0) driver.state->limits[now].used += bytes;
  c->limit[record] = (uint16_t)(now + 1);
}

int limit_allows(uint32_t client, uint32_t record, uint64_t more) {
  if (!any_limits()) return 1;
  recharge(client, record);
  uint16_t slot = driver.clients[client].limit[record];
  if (!slot || driver.state->limit_mode != SIM_LIMITS_ENFORCED) return 1;
  const struct sim_limit *l = &driver.state->limits[slot - 1];
  return l->hard == NO_LIMIT || (l->used <= l->hard && more <= l->hard - l->used);
}

void charge_limit(uint32_t client, uint32_t record, int64_t change) {
  uint16_t slot = driver.clients[client].limit[record];
  if (slot) driver.state->limits[slot - 1].used += (uint64_t)change;
}

static void drop_slot(int slot) {
  uint32_t record = driver.state->limits[slot].device;
  for (uint32_t i = 0; i < driver.client_top; i++)
    if (driver.clients[i].limit[record] == slot + 1) driver.clients[i].limit[record] = 0;
  driver.state->limits[slot] = (struct sim_limit){0};
  free(driver.limit_paths[slot]);
  driver.limit_paths[slot] = NULL;
}

static void changed(void) {
  if (!atomic_fetch_add(&driver.state->limits_generation, 1) + 1)
    atomic_store(&driver.state->limits_generation, 1);
}

uint32_t set_limit(uint32_t client, uint32_t record, uint64_t soft, uint64_t hard,
                   const char *given) {
  const struct client *c = &driver.clients[client];
  uint32_t mode = driver.state->limit_mode;
  if (mode == SIM_LIMITS_NOT_SUPPORTED) return NVML_ERROR_NOT_SUPPORTED;
  if (mode == SIM_LIMITS_NO_PERMISSION || (c->uid != 0 && c->uid != driver.uid))
    return NVML_ERROR_NO_PERMISSION;
  if (hard != NO_LIMIT && soft != NO_LIMIT && soft > hard) return NVML_ERROR_INVALID_ARGUMENT;
  char *path = canonical(given);
  if (!path) return NVML_ERROR_INVALID_ARGUMENT;
  int slot = find_slot(record, path);
  if (!cgroup_exists(path)) {
    free(path);
    return NVML_ERROR_NOT_FOUND;
  }
  int unlimited = hard == NO_LIMIT && (soft == 0 || soft == NO_LIMIT);
  if (slot < 0 && unlimited) {
    free(path);
    return NVML_SUCCESS;
  }
  for (int i = 0; slot < 0 && i < SIM_MAX_LIMITS; i++)
    if (!driver.state->limits[i].in_use) slot = i;
  if (slot < 0) {
    free(path);
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
  }
  free(driver.limit_paths[slot]);
  driver.limit_paths[slot] = path;
  struct sim_limit *l = &driver.state->limits[slot];
  *l = (struct sim_limit){
      .in_use = 1, .device = record, .soft = soft, .hard = hard, .used = l->in_use ? l->used : 0};
  changed();
  for (uint32_t i = 0; i < driver.client_top; i++)
    if (driver.clients[i].fd >= 0 && held(i, record)) recharge(i, record);
  if (unlimited) drop_slot(slot);
  return NVML_SUCCESS;
}

uint32_t get_limit(uint32_t record, const char *given, struct sim_reply *reply) {
  uint32_t mode = driver.state->limit_mode;
  if (mode == SIM_LIMITS_NOT_SUPPORTED) return NVML_ERROR_NOT_SUPPORTED;
  char *path = canonical(given);
  if (!path) return NVML_ERROR_INVALID_ARGUMENT;
  int slot = find_slot(record, path), there = cgroup_exists(path);
  reply->a = slot < 0 || mode == SIM_LIMITS_FORGOTTEN ? 0 : driver.state->limits[slot].soft;
  reply->b = slot < 0 || mode == SIM_LIMITS_FORGOTTEN ? NO_LIMIT : driver.state->limits[slot].hard;
  reply->c = slot < 0 ? 0 : driver.state->limits[slot].used;
  if (slot < 0 && there) { /* what lives there without a limit is still counted */
    char cgroups[16384];
    for (uint32_t i = 0; i < driver.client_top; i++)
      if (driver.clients[i].fd >= 0 && held(i, record) &&
          !read_cgroups(driver.clients[i].pid, cgroups, sizeof cgroups) && lives_in(cgroups, path))
        reply->c += held(i, record);
  }
  free(path);
  return there || slot >= 0 ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

uint64_t limit_of(uint32_t client, uint32_t record) {
  if (driver.state->limit_mode != SIM_LIMITS_ENFORCED || !any_limits()) return UINT64_MAX;
  int slot = current_slot(client, record);
  return slot < 0 ? UINT64_MAX : (uint64_t)slot;
}

void sweep_limits(void) {
  if (!any_limits()) return;
  for (int i = 0; i < SIM_MAX_LIMITS; i++) {
    struct sim_limit *l = &driver.state->limits[i];
    if (!l->in_use || cgroup_exists(driver.limit_paths[i])) continue;
    if (l->soft && l->soft != NO_LIMIT) driver.leaked_reservation += l->soft;
    drop_slot(i);
    changed();
  }
}
