/* io_impl.h: what the files of io/ tell one another: bytes that grow, arrays in sources, tables in the making, raw
 * deflate streams, zip archives, JSON headers. */
#ifndef MX_IO_IMPL_H
#define MX_IO_IMPL_H

#include "io.h"

/* -- bytes and sources (source.c) ---------------------------------------------------------------------------------- */
bool mx_source_bytes(mx_ctx *c, const mx_source *s, size_t offset, size_t n, mx_bytes *out);
/* The array whose elements lie there in row-major order. */
mx_array *mx_source_array(mx_ctx *c, const mx_source *s, size_t offset, const mx_aval *a, bool big_endian);
/* A row-major array (retained) whose bytes are little-endian: what files hold. */
mx_array *mx_array_for_file(mx_ctx *c, mx_array *x);

/* -- tables of named arrays (source.c) ----------------------------------------------------------------------------- */
mx_entry *mx_table_add(mx_ctx *c, const char *name, mx_table *t); /* zeroed */
/* Sorts; an error where two names are equal or two entries share bytes. */
bool mx_table_settle(mx_ctx *c, const char *name, mx_table *t);

/* -- deflate (gzip.c) ---------------------------------------------------------------------------------------------- */
/* A raw deflate stream that holds just `expected` bytes, and back: the parts as one stream, appended. */
bool mx_inflate_raw(mx_ctx *c, const char *name, const void *bytes, size_t size, size_t expected, mx_bytes *out);
bool mx_deflate_raw(mx_ctx *c, const mx_span *parts, int n, mx_bytes *out);

/* -- zip (zip.c) --------------------------------------------------------------------------------------------------- */
/* zip.c: archives of stored and deflated entries. Both ways through zlib alone, which is there for gzip anyway: its
 * memory comes from the engine, which other archive libraries have no way for. */
bool mx_zip_open(mx_ctx *c, const mx_source *s, mx_table *t);
bool mx_zip_read(mx_ctx *c, const mx_source *s, const mx_entry *e, mx_bytes *out); /* inflated, its checksum right */
typedef struct mx_zip_writer {
  mx_writer w;
  mx_bytes directory; /* the central directory so far */
  uint64_t entries;
} mx_zip_writer;
bool mx_zip_begin(mx_ctx *c, mx_zip_writer *z, const char *path);
/* An entry `name` + `suffix` whose bytes are those of the parts. */
bool mx_zip_add(mx_ctx *c, mx_zip_writer *z, mx_span name, const char *suffix, const mx_span *parts, int n,
                bool deflate);
bool mx_zip_end(mx_ctx *c, mx_zip_writer *z, bool ok); /* commits, or discards where something went wrong (not ok) */

/* -- JSON (json.c) ------------------------------------------------------------------------------------------------- */
/* json.c: a strict reader for headers of a known form. It builds no tree: the caller asks for what must come next, and
 * anything else is an error with its place, so nothing nests deeper than the caller's own loops. */
typedef struct mx_json {
  mx_ctx *c;
  const char *name;
  char *start, *at, *end; /* strings are decoded in place */
} mx_json;
bool mx_json_open(mx_json *j, mx_ctx *c, const char *name, char *text, size_t size); /* checks that it is UTF-8 */
bool mx_json_fail(mx_json *j, const char *what);
bool mx_json_take(mx_json *j, char punctuation);
/* Behind an opening bracket or a member: whether another member begins. Takes the comma before it, or the closing
 * bracket; *n counts. */
bool mx_json_more(mx_json *j, char close, int *n);
bool mx_json_string(mx_json *j, mx_span *s);
bool mx_json_count(mx_json *j, int64_t *v); /* an integer from 0 on */
bool mx_json_end(mx_json *j);
bool mx_is_utf8(const void *text, size_t size);
bool mx_json_add_string(mx_ctx *c, mx_bytes *b, mx_span s); /* writes "..." */

#endif
