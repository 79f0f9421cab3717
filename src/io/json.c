/* json.c: JSON, as far as headers of files need it. A library's tree of nodes would hold offsets as doubles, keep the
 * last of two equal keys in silence, take its memory from hooks that the whole process shares, and grow before the
 * header is known to be sound. */
#include "io_impl.h"

#include <stdio.h>

bool mx_json_fail(mx_json *j, const char *what) {
  mx_fail(j->c, MLAX_FORMAT, "%s: the header is no such JSON: %s (at byte %zu of it)", j->name, what,
          (size_t)(j->at - j->start));
  return false;
}

/* -- UTF-8 --------------------------------------------------------------------------------------------------------- */

/* The length of the character at p, 0 where there is none: no surrogates, no longer forms, nothing past 10FFFF. */
static size_t utf8_length(const unsigned char *p, size_t room) {
  if (p[0] < 0x80) return 1;
  size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
  if (p[0] < 0xc2 || p[0] > 0xf4 || n > room) return 0;
  for (size_t i = 1; i < n; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  if (p[0] == 0xe0 && p[1] < 0xa0) return 0;
  if (p[0] == 0xed && p[1] > 0x9f) return 0;
  if (p[0] == 0xf0 && p[1] < 0x90) return 0;
  if (p[0] == 0xf4 && p[1] > 0x8f) return 0;
  return n;
}

bool mx_is_utf8(const void *text, size_t size) {
  const unsigned char *p = text, *end = p + size;
  while (p < end) {
    size_t n = utf8_length(p, (size_t)(end - p));
    if (!n) return false;
    p += n;
  }
  return true;
}

static char *utf8_put(char *to, uint32_t code) {
  if (code < 0x80) *to++ = (char)code;
  else if (code < 0x800) {
    *to++ = (char)(0xc0 | code >> 6);
    *to++ = (char)(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *to++ = (char)(0xe0 | code >> 12);
    *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    *to++ = (char)(0x80 | (code & 0x3f));
  } else {
    *to++ = (char)(0xf0 | code >> 18);
    *to++ = (char)(0x80 | (code >> 12 & 0x3f));
    *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    *to++ = (char)(0x80 | (code & 0x3f));
  }
  return to;
}

/* -- reading ------------------------------------------------------------------------------------------------------- */

bool mx_json_open(mx_json *j, mx_ctx *c, const char *name, char *text, size_t size) {
  *j = (mx_json){c, name, text, text, text + size};
  return mx_is_utf8(text, size) || mx_json_fail(j, "it is not UTF-8");
}

static void skip_space(mx_json *j) {
  while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t')) j->at++;
}

bool mx_json_take(mx_json *j, char punctuation) {
  skip_space(j);
  if (j->at < j->end && *j->at == punctuation) return j->at++, true;
  char what[] = "need '?'";
  what[6] = punctuation;
  return mx_json_fail(j, what);
}

bool mx_json_more(mx_json *j, char close, int *n) {
  skip_space(j);
  if (j->at < j->end && *j->at == close) return j->at++, false;
  if (*n > 0 && !mx_json_take(j, ',')) return false;
  ++*n;
  return true;
}

/* Four hexadecimal digits; -1: no such. */
static int32_t hex_read(mx_json *j) {
  int32_t v = 0;
  if (j->end - j->at < 4) return -1;
  for (int i = 0; i < 4; i++) {
    char d = *j->at++;
    int digit = d >= '0' && d <= '9'   ? d - '0'
                : d >= 'a' && d <= 'f' ? d - 'a' + 10
                : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                       : -1;
    if (digit < 0) return -1;
    v = v * 16 + digit;
  }
  return v;
}

/* What stands behind \u; 0 with the error recorded. A zero character is refused: names end up in C strings. */
static uint32_t code_read(mx_json *j) {
  int32_t code = hex_read(j);
  if (code >= 0xd800 && code < 0xdc00 && j->end - j->at >= 2 && j->at[0] == '\\' && j->at[1] == 'u') {
    j->at += 2;
    int32_t low = hex_read(j);
    if (low >= 0xdc00 && low < 0xe000) return 0x10000 + ((uint32_t)(code - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    code = -1;
  }
  if (code > 0 && (code < 0xd800 || code > 0xdfff)) return (uint32_t)code;
  mx_json_fail(j, "a \\u escape is no character");
  return 0;
}

static bool escape_read(mx_json *j, char **to) {
  static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  char kind = j->at < j->end ? *j->at++ : 0;
  if (kind == 'u') {
    uint32_t code = code_read(j);
    if (code) *to = utf8_put(*to, code);
    return code != 0;
  }
  const char *p = kind ? strchr(plain, kind) : NULL;
  if (!p) return mx_json_fail(j, "an unknown escape");
  *(*to)++ = meant[p - plain];
  return true;
}

/* Decoded text is never longer than its escapes, so it is written over them. */
bool mx_json_string(mx_json *j, mx_span *s) {
  if (!mx_json_take(j, '"')) return false;
  char *to = j->at;
  s->data = to;
  while (j->at < j->end && *j->at != '"') {
    char byte = *j->at++;
    if ((unsigned char)byte < 0x20) return mx_json_fail(j, "a control character in a string");
    if (byte != '\\') *to++ = byte;
    else if (!escape_read(j, &to)) return false;
  }
  if (j->at == j->end) return mx_json_fail(j, "a string does not end");
  j->at++;
  s->size = (size_t)(to - s->data);
  *to = 0; /* at most where the quote was */
  return true;
}

bool mx_json_count(mx_json *j, int64_t *v) {
  skip_space(j);
  const char *first = j->at;
  *v = 0;
  for (; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++)
    if (__builtin_mul_overflow(*v, (int64_t)10, v) || __builtin_add_overflow(*v, (int64_t)(*j->at - '0'), v))
      return mx_json_fail(j, "a number is too large");
  if (j->at == first || (*first == '0' && j->at - first > 1)) return mx_json_fail(j, "need an integer from 0 on");
  return true;
}

bool mx_json_end(mx_json *j) {
  skip_space(j);
  return j->at == j->end || mx_json_fail(j, "something follows its end");
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* The escape of a byte, or "" where it stands for itself. */
static const char *escape_of(char byte, char *room) {
  switch (byte) {
  case '"': return "\\\"";
  case '\\': return "\\\\";
  case '\b': return "\\b";
  case '\f': return "\\f";
  case '\n': return "\\n";
  case '\r': return "\\r";
  case '\t': return "\\t";
  default: break;
  }
  if ((unsigned char)byte >= 0x20) return "";
  snprintf(room, 8, "\\u%04x", (unsigned)(unsigned char)byte);
  return room;
}

bool mx_json_add_string(mx_ctx *c, mx_bytes *b, mx_span s) {
  char room[8];
  bool ok = mx_bytes_add(c, b, "\"", 1);
  for (size_t i = 0; ok && i < s.size; i++) {
    const char *escape = escape_of(s.data[i], room);
    ok = *escape ? mx_bytes_add(c, b, escape, strlen(escape)) : mx_bytes_add(c, b, s.data + i, 1);
  }
  return ok && mx_bytes_add(c, b, "\"", 1);
}
