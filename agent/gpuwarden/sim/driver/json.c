/* See json.h. */
#define _GNU_SOURCE
#include "json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *skip(char *p) {
  while (*p == ' ' || *p == '\t' || *p == '\r') p++;
  return p;
}

static int hex4(const char *p) {
  int v = 0;
  for (int i = 0; i < 4; i++) {
    char c = p[i];
    int d = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : -1;
    if (d < 0) return -1;
    v = v * 16 + d;
  }
  return v;
}

/* At the opening quote; unescapes in place and returns the first character after the closing one.
 * Surrogate pairs and NUL are refused: no command needs them. */
static char *string(char *p, char **out) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if (*p++ != '"') return NULL;
  char *w = p;
  *out = p;
  while (*p && *p != '"') {
    if ((unsigned char)*p < 32) return NULL;
    if (*p != '\\') {
      *w++ = *p++;
      continue;
    }
    const char *known = p[1] ? strchr(from, p[1]) : NULL;
    if (known) {
      *w++ = to[known - from];
      p += 2;
    } else if (p[1] == 'u') {
      int c = hex4(p + 2);
      if (c <= 0 || (c >= 0xd800 && c <= 0xdfff)) return NULL;
      if (c < 0x80)
        *w++ = (char)c;
      else if (c < 0x800)
        *w++ = (char)(0xc0 | c >> 6), *w++ = (char)(0x80 | (c & 63));
      else
        *w++ = (char)(0xe0 | c >> 12), *w++ = (char)(0x80 | (c >> 6 & 63)),
        *w++ = (char)(0x80 | (c & 63));
      p += 6;
    } else {
      return NULL;
    }
  }
  if (*p != '"') return NULL;
  p++;
  *w = 0;
  return strlen(*out) <= JSON_MAX_STRING ? p : NULL;
}

static char *number(char *p, struct json_value *out) {
  char *end_integer, *end_real;
  errno = 0;
  out->integer = strtoll(p, &end_integer, 10);
  int too_big = errno == ERANGE;
  errno = 0;
  out->real = strtod(p, &end_real);
  if (end_real == p) return NULL;
  if (end_real != end_integer) {
    out->type = JSON_REAL;
    out->integer = out->real > -9e18 && out->real < 9e18 ? (int64_t)out->real : 0;
    return end_real;
  }
  out->type = JSON_INTEGER;
  errno = 0;
  out->natural = *p == '-' ? 0 : strtoull(p, NULL, 10);
  if (errno == ERANGE || (too_big && *p == '-')) return NULL;
  return end_real;
}

static char *value(char *p, struct json_value *out) {
  *out = (struct json_value){0};
  if (*p == '"') {
    out->type = JSON_STRING;
    return string(p, &out->text);
  }
  if (!strncmp(p, "true", 4)) {
    out->type = JSON_BOOL;
    out->integer = (int64_t)(out->natural = 1);
    return p + 4;
  }
  if (!strncmp(p, "false", 5)) {
    out->type = JSON_BOOL;
    return p + 5;
  }
  if (!strncmp(p, "null", 4)) {
    out->type = JSON_NULL;
    return p + 4;
  }
  if (*p == '-' || (*p >= '0' && *p <= '9')) return number(p, out);
  return NULL;
}

int json_parse(char *line, struct json_object *out) {
  out->count = 0;
  char *p = skip(line);
  if (*p++ != '{') return -1;
  p = skip(p);
  if (*p == '}') return *skip(p + 1) ? -1 : 0;
  for (;;) {
    if (out->count == JSON_MAX_PAIRS) return -1;
    char **key = &out->pairs[out->count].key;
    if (!(p = string(skip(p), key))) return -1;
    p = skip(p);
    if (*p++ != ':') return -1;
    if (!(p = value(skip(p), &out->pairs[out->count].value))) return -1;
    out->count++;
    p = skip(p);
    if (*p == '}') return *skip(p + 1) ? -1 : 0;
    if (*p++ != ',') return -1;
  }
}

const struct json_value *json_find(const struct json_object *object, const char *key) {
  for (int i = 0; i < object->count; i++)
    if (!strcmp(object->pairs[i].key, key)) return &object->pairs[i].value;
  return NULL;
}

static int reserve(struct json_out *out, size_t more) {
  if (out->failed) return -1;
  if (out->length + more + 1 <= out->room) return 0;
  size_t room = out->room ? out->room : 1024;
  while (room < out->length + more + 1) room *= 2;
  char *text = room <= out->bound ? realloc(out->text, room) : NULL;
  if (!text) {
    out->failed = 1;
    return -1;
  }
  out->text = text;
  out->room = room;
  return 0;
}

void json_raw(struct json_out *out, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  if (n >= 0 && !reserve(out, (size_t)n)) {
    vsnprintf(out->text + out->length, (size_t)n + 1, format, again);
    out->length += (size_t)n;
  }
  va_end(again);
  va_end(args);
}

void json_string(struct json_out *out, const char *text) {
  json_raw(out, "\"");
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\')
      json_raw(out, "\\%c", c);
    else if (c < 32 || c == 127)
      json_raw(out, "\\u%04x", c);
    else
      json_raw(out, "%c", c);
  }
  json_raw(out, "\"");
}
