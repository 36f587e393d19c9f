/* The little JSON that the control socket speaks: one flat object a line, in both directions
 * (replies may hold arrays of flat objects). */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>
#include <stdint.h>

#define JSON_MAX_PAIRS 24
#define JSON_MAX_STRING 2048

enum json_type { JSON_NONE, JSON_STRING, JSON_INTEGER, JSON_REAL, JSON_BOOL, JSON_NULL };
struct json_value {
  enum json_type type;
  char *text;       /* JSON_STRING, unescaped in place */
  int64_t integer;  /* JSON_INTEGER and JSON_BOOL; JSON_REAL cut */
  uint64_t natural; /* JSON_INTEGER at or above zero */
  double real;
};
struct json_object {
  int count;
  struct {
    char *key;
    struct json_value value;
  } pairs[JSON_MAX_PAIRS];
};

/* Parses one object, changing `line`; 0, or -1 when it is anything else. */
int json_parse(char *line, struct json_object *out);
const struct json_value *json_find(const struct json_object *object, const char *key);

/* Output: grows up to a bound, then `failed` stays set. */
struct json_out {
  char *text;
  size_t length, room, bound;
  int failed;
};
void json_raw(struct json_out *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void json_string(struct json_out *out, const char *text);

#endif
