/* Between the control socket and the commands it carries. */
#ifndef CONTROL_H
#define CONTROL_H

#include "json.h"

/* One command: reads its arguments, writes `"key":value,` pairs to `out`, returns NULL or what is
 * wrong with the request. */
typedef const char *(*command)(const struct json_object *args, struct json_out *out);
command find_command(const char *name);

/* Arguments: each returns 0 when it is absent or fits, and stores only in the latter case. */
int arg_natural(const struct json_object *args, const char *key, uint64_t high, uint64_t *out);
const char *arg_text(const struct json_object *args, const char *key);
int arg_true(const struct json_object *args, const char *key);
/* "device": an NVML index or a UUID -> record and instance; -1 when absent or unknown. */
int arg_device(const struct json_object *args, uint32_t *record, uint32_t *mig);

command find_injection(const char *name);
command find_board_injection(const char *name);
command find_query(const char *name);
const char *kernel_log(const struct json_object *args, struct json_out *out); /* kmsg.c */

#endif
