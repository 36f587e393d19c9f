/* Messages on DIR/driver.sock (SOCK_SEQPACKET; one message a datagram).
 *
 * A connection is what an open device file is to the real driver: the peer is
 * known by its credentials (host pid, whatever its pid namespace), everything
 * it holds is freed when the last copy of the descriptor closes, and a forked
 * child that inherited the descriptor keeps the bytes under the dead parent.
 *
 * Client to driver: struct sim_request, then up to SIM_MAX_TEXT bytes of text.
 * Driver to client: struct sim_reply. Every request is answered once, with its
 * tag. SIM_LAUNCH is answered when the work completes, so replies of one
 * connection may come out of order. SIM_EVENT replies come unasked, after a
 * SIM_EVENTS request. A malformed message closes the connection.
 */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stdint.h>

#define SIM_PROTOCOL 0x47575032u /* "GWP2" */
#define SIM_MAX_TEXT 4096
#define SIM_MAX_LAUNCHES 128 /* outstanding for one connection */

enum sim_op {
  SIM_HELLO = 1,  /* a: enum sim_role, b: sim_proc_kind bits (workloads) */
  SIM_RESOLVE,    /* text: index or UUID -> device: record | instance << 8 */
  SIM_ALLOC,      /* device, a: bytes -> a: bytes held there by this connection */
  SIM_FREE,       /* device, a: bytes -> a: bytes held there by this connection */
  SIM_LOAD,       /* device, a: steady demand in thousandths of the device */
  SIM_LAUNCH,     /* device, a: microseconds when alone, b: demand in thousandths */
  SIM_LOCKUP,     /* device, a: 1 persistent, b: Xid number (0: the default) */
  SIM_EVENTS,     /* device, a: event mask, added to what is registered */
  SIM_EVENT,      /* driver to client; device, a: type, b: data, c: instance */
  SIM_LIMIT_SET,  /* device, a: soft, b: hard, text: cgroup path */
  SIM_LIMIT_GET,  /* device, text: cgroup path -> a: soft, b: hard, c: used */
  SIM_LIMIT_MINE, /* device -> a: index in sim_state.limits, or ~0 */
  SIM_SET_MODE,   /* device, a: enum sim_mode, b: value; root or the driver's own user */
};

enum sim_role { SIM_ROLE_WORKLOAD = 1, SIM_ROLE_LIBRARY, SIM_ROLE_EVENTS };
enum sim_mode {
  SIM_MODE_PERSISTENCE = 1,
  SIM_MODE_ACCOUNTING,
  SIM_MODE_ACCOUNTING_CLEAR,
  SIM_MODE_COMPUTE,
  SIM_MODE_ECC,
  SIM_MODE_POWER_LIMIT
};

struct sim_request {
  uint32_t magic, op;
  uint64_t tag;
  uint32_t device, text_length;
  uint64_t a, b;
};

struct sim_reply {
  uint32_t magic, op;
  uint64_t tag;
  uint32_t status; /* an NVML return code: 0, 4 permission, 20 out of memory, ... */
  uint32_t device;
  uint64_t a, b, c;
};

#endif
