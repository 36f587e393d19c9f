/* Control commands that change a board: its modes, limits, spare rows, InfoROM, its link's speed. */
#define _GNU_SOURCE
#include "control.h"
#include "driver.h"

#define BOARD_ARG                                             \
  uint32_t record, mig;                                       \
  (void)out;                                                  \
  if (arg_device(args, &record, &mig))                        \
    return "device: expected an index or a UUID of this host"; \
  struct sim_device *dev = public_of(record)
#define NATURAL(key, high, variable) \
  if (arg_natural(args, key, high, &variable)) return key ": expected a number from 0 to " #high

/* modes {device, persistence?, ecc?, ecc_pending?}: as a tool of the operator would set them; ECC
 * at once, without the reset that it takes */
static const char *modes(const struct json_object *args, struct json_out *out) {
  BOARD_ARG;
  uint64_t persistence = dev->persistence, now = dev->ecc_mode, later = dev->ecc_pending;
  NATURAL("persistence", 1, persistence);
  NATURAL("ecc", 1, now);
  NATURAL("ecc_pending", 1, later);
  WRITE(dev, dev->persistence = (uint32_t)persistence; dev->ecc_mode = (uint32_t)now;
        dev->ecc_pending = (uint32_t)later);
  return NULL;
}
/* power {device, held_w}: something other than the driver keeps the board to so many watts; 0 lets
 * go */
static const char *power(const struct json_object *args, struct json_out *out) {
  BOARD_ARG;
  uint64_t held = dev->power_held_mw / 1000;
  NATURAL("held_w", 10000, held);
  WRITE(dev, dev->power_held_mw = (uint32_t)held * 1000);
  return NULL;
}
/* inforom {device, corrupted}: 1: its checksums are wrong */
static const char *inforom(const struct json_object *args, struct json_out *out) {
  BOARD_ARG;
  uint64_t corrupted = dev->inforom_corrupted;
  NATURAL("corrupted", 1, corrupted);
  WRITE(dev, dev->inforom_corrupted = (uint32_t)corrupted);
  return NULL;
}
/* spares {device, low?, none?}: so many memory banks have few or no spare rows left */
static const char *spares(const struct json_object *args, struct json_out *out) {
  BOARD_ARG;
  if (!dev->id.has_row_remap) return "device: its profile has no row remapping";
  uint64_t low = dev->remap_banks[3], none = dev->remap_banks[4];
  NATURAL("low", 320, low);
  NATURAL("none", 320, none);
  uint32_t whole = 640 - (uint32_t)(low + none) - dev->remap_banks[1] - dev->remap_banks[2];
  WRITE(dev, dev->remap_banks[0] = whole; dev->remap_banks[3] = (uint32_t)low;
        dev->remap_banks[4] = (uint32_t)none);
  return NULL;
}
/* link_speed {device, generation}: the PCIe link does not get beyond it; 0 lets go */
static const char *link_speed(const struct json_object *args, struct json_out *out) {
  BOARD_ARG;
  (void)dev;
  uint64_t generation = driver.devices[record].forced_pcie_gen;
  NATURAL("generation", 6, generation);
  driver.devices[record].forced_pcie_gen = (uint32_t)generation;
  return NULL;
}

command find_board_injection(const char *name) {
  static const struct {
    const char *name;
    command run;
  } all[] = {{"modes", modes},
             {"power", power},
             {"inforom", inforom},
             {"spares", spares},
             {"link_speed", link_speed}};
  for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
    if (!strcmp(all[i].name, name)) return all[i].run;
  return NULL;
}
